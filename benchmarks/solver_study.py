"""Find the number of AOS steps (or the certified optimum) and the lam of the best pseudo-labels, early and late.

    python benchmarks/solver_study.py DATASET_DIR --out OUT [--early 5] [--late 40] [--images N] [--KNOB VALUE ...]

Trains on points alone twice, for a few epochs and for many, through the bundle; further knobs are passed to the
training. Then each network's contrast maps of the training images are segmented by every solver at every lam, and the
pseudo-labels are compared with the masks, which training does not use. Writes OUT/study.csv and OUT/study.md.
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import set_track_meta
from tqdm import tqdm

from cvm_monai.annotations import UNLABELLED
from cvm_monai.engines.metrics import mask_dice
from cvm_monai.inference import load_network
from cvm_monai.knobs import MeansRule
from cvm_monai.variational import average, contrast_maps, normalise, solve

ROOT = Path(__file__).resolve().parents[1]
LAMS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
OPTIMUM = "certified optimum"
TOLERANCE = 1e-4
SOLVERS: dict[str, dict[str, Any]] = {
    "5 AOS": {"method": "aos", "iterations": 5, "tolerance": 0.0},
    "50 AOS": {"method": "aos", "iterations": 50, "tolerance": 0.0},
    "500 AOS": {"method": "aos", "iterations": 500, "tolerance": 0.0},
    OPTIMUM: {"method": "primal_dual", "iterations": 2000, "tolerance": TOLERANCE},
}
NETWORK, CONTRAST, TRIVIAL = "network's own output", "mean contrast map, no solver", "everything target"
UNCERTAIN = (0.1, 0.9)
SCORES = ("dice", "uncertain", "weighted_error")
TABLES: tuple[tuple[str, str, str, Callable[[list[float]], float] | None], ...] = (
    ("Dice", "dice", "alternating", max),
    ("share of uncertain pixels", "uncertain", "alternating", None),
    ("weighted error", "weighted_error", "alternating", min),
    ("seconds for each map", "seconds", "alternating", None),
    ("Dice, c1 and c2 fixed", "dice", "fixed", max),
    ("energy above the optimum, relative, c1 and c2 fixed", "excess", "fixed", None),
)
"""Title, column of Row, rule of the means, which value is best."""


@dataclass(frozen=True)
class Row:
    """One image by one method; NaN where there is nothing to say.

    Attributes:
        means: `alternating`, as in training, or `fixed`, where the energies of all solvers compare.
        labelled: False where no map ended with two phases: no pseudo-label, no scores.
        dice: of u > 0.5 against the mask.
        uncertain: share of the pixels with 0.1 < u < 0.9.
        weighted_error: mean of |u - mask| with the weights exp(-2 h(u)) that the loss gives the pixels.
        seconds: for each map.
        certified: `primal_dual`: share of the maps whose gap is below the tolerance.
        excess: `fixed`: energy above the optimum's, relative to it, mean over maps.
    """

    stage: str
    case_id: str
    method: str
    lam: float = np.nan
    means: str = ""
    labelled: bool = True
    dice: float = np.nan
    uncertain: float = np.nan
    weighted_error: float = np.nan
    seconds: float = np.nan
    certified: float = np.nan
    excess: float = np.nan


def train(run: Path, epochs: int, arguments: argparse.Namespace, knobs: Sequence[str]) -> None:
    """Train on points alone into `run`, unless a model is there."""
    if (run / "models" / "model.pt").exists():
        return
    settings = {"supervision": "partial_ce", "tracking_uri": "none", "dataset_dir": arguments.dataset_dir.resolve()}
    settings |= {"output_dir": run.resolve(), "max_epochs": epochs, "fold": arguments.fold, "seed": arguments.seed}
    command = [sys.executable, "-W", "ignore::UserWarning:monai.bundle.scripts", "-m", "monai.bundle", "run"]
    command += ["training", "--config_file", str(ROOT / "bundle" / "configs" / "train.yaml")]
    command += [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([*command, *knobs], check=True, env=environment)


def study(stage: str, run: Path, limit: int | None) -> list[Row]:
    """All rows of one network; the images are those of a renewal of pseudo-labels, by the run's own configuration."""
    network = load_network(run)
    config = ConfigParser(ConfigParser.load_config_file(run / "config.json"))
    eta, prepare = config.get_parsed_content("eta"), config.get_parsed_content("validate#preprocessing")
    records = config.get_parsed_content("train#dataset#data")
    count = min(limit or len(records), len(records))
    rows: list[Row] = []
    for index in tqdm(np.linspace(0, len(records) - 1, count).round().astype(int), desc=stage, unit="image"):
        item = prepare(records[index])
        if len(item["in_points"]) and len(item["out_points"]):
            rows += study_image(stage, item, network, eta)
    return rows


def study_image(stage: str, item: dict[str, Any], network: Any, eta: float) -> Iterator[Row]:
    """Every method on one image."""
    with torch.no_grad():
        logits, features = network.features(item["image"][None])
        z = contrast_maps(features[0].float(), item["in_points"], item["out_points"], eta=eta).numpy()
        probability = torch.softmax(logits[0].float(), dim=0)[1].numpy()
    name, mask = item["case_id"], item["mask"][0].numpy()
    yield Row(stage, name, NETWORK, **scores(probability, mask))
    yield Row(stage, name, CONTRAST, **scores(normalise(z.mean(axis=0)), mask))
    yield Row(stage, name, TRIVIAL, **scores(np.ones_like(probability), mask))
    for means, lam in itertools.product(get_args(MeansRule), LAMS):
        lowest = np.full(len(z), np.nan)
        for method, settings in reversed(SOLVERS.items()):  # the optimum comes first
            start = time.perf_counter()
            solution = solve(z, lam=lam, means=means, **settings)
            found: dict[str, Any] = {"seconds": (time.perf_counter() - start) / len(z)}
            lowest = solution.energy if method == OPTIMUM else lowest
            u = average(solution)
            found |= {"labelled": False} if u is None else scores(u, mask)
            found["excess"] = finite(solution.energy / lowest - 1) if means == "fixed" else np.nan
            found["certified"] = finite(np.where(np.isnan(solution.gap), np.nan, solution.gap < TOLERANCE))
            yield Row(stage, name, method, lam, means, **found)


def scores(u: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """How good one soft segmentation is, over the pixels that the mask knows."""
    known = mask != UNLABELLED
    dice = mask_dice(torch.from_numpy(u > 0.5), torch.from_numpy(mask))
    u, truth = np.clip(u[known].astype(np.float64), 1e-7, 1 - 1e-7), mask[known] == 1
    weight = np.exp(2 * (u * np.log(u) + (1 - u) * np.log(1 - u)))
    return {
        "dice": np.nan if dice is None else dice,
        "uncertain": finite((u > UNCERTAIN[0]) & (u < UNCERTAIN[1])),
        "weighted_error": finite(weight * np.abs(u - truth)) / finite(weight),
    }


def finite(values: Any, reduce: Callable[[Any], Any] = np.mean) -> float:
    """Mean of the finite values; NaN without any."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(reduce(known)) if known.size else np.nan


def column(rows: Sequence[Row], name: str, **wanted: Any) -> list[Any]:
    """One column of the rows with these values."""
    return [getattr(row, name) for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]


def table(rows: Sequence[Row], title: str, name: str, means: str, best: Callable[[list[float]], float] | None) -> str:
    """Solvers against lam; the best in bold, among the cells that label the most images."""
    cells = {(m, lam): column(rows, name, method=m, lam=lam, means=means) for m in SOLVERS for lam in LAMS}
    values = {key: finite(part, np.median if name == "seconds" else np.mean) for key, part in cells.items()}
    absent = {(m, lam): column(rows, "labelled", method=m, lam=lam, means=means).count(False) for m, lam in cells}
    least = min(absent.values())
    full = [value for key, value in values.items() if absent[key] == least and np.isfinite(value)]
    top = best(full) if best and full else None

    def text(key: tuple[str, float]) -> str:
        bold = "**" if values[key] == top and absent[key] == least else ""
        return f"{bold}{values[key]:.3f}{bold}" + (f" (-{absent[key]})" if absent[key] and name in SCORES else "")

    lines = [f"| {title} | " + " | ".join(f"lam {lam:g}" for lam in LAMS) + " |", "|---" * (len(LAMS) + 1) + "|"]
    lines += [f"| {method} | " + " | ".join(text((method, lam)) for lam in LAMS) + " |" for method in SOLVERS]
    return "\n".join(lines) + "\n"


def report(stage: str, epochs: int, rows: Sequence[Row]) -> str:
    """The Markdown of one network."""
    lines = [f"## {stage}: at most {epochs} epochs, {len(column(rows, 'dice', method=NETWORK))} training images\n"]
    for method in (NETWORK, CONTRAST, TRIVIAL):
        values = {name: finite(column(rows, name, method=method)) for name in SCORES}
        lines.append(f"- {method}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    certified = finite(column(rows, "certified", method=OPTIMUM, means="alternating"))
    lines.append(f"- {certified:.1%} of the optima are certified; (-n): without n images that got no pseudo-label\n")
    return "\n".join([*lines, *(table(rows, *entry) for entry in TABLES)])


def main() -> None:
    """Train where needed, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0], allow_abbrev=False)
    parser.add_argument("dataset_dir", type=Path, help="folder with datalist.json; masks are needed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs, study.csv and study.md")
    parser.add_argument("--early", type=int, default=5, help="epochs of the first network (5)")
    parser.add_argument("--late", type=int, default=40, help="epochs of the second network (40)")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, help="measure so many training images, evenly spaced, instead of all")
    arguments, knobs = parser.parse_known_args()
    set_track_meta(False)
    rows: list[Row] = []
    texts = [f"# {' '.join((str(arguments.dataset_dir), f'fold {arguments.fold}, seed {arguments.seed}', *knobs))}\n"]
    for stage, epochs in (("early", arguments.early), ("late", arguments.late)):
        train(arguments.out / stage, epochs, arguments, knobs)
        found = study(stage, arguments.out / stage, arguments.images)
        rows += found
        texts.append(report(stage, epochs, found))
    with open(arguments.out / "study.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (arguments.out / "study.md").write_text("\n".join(texts), encoding="utf-8")
    print("\n".join(texts))


if __name__ == "__main__":
    main()
