"""Train the bundle from the start to its end: the share of renewals by the clock, and Dice by the grid of u.

    python benchmarks/trainings.py --sizes 512 --cases 20                              the share of the default training
    python benchmarks/trainings.py --spacings 1 2 --seeds 0 1 2 --network unet --channels 8 16 32 64 64    Dice

Each training and its test are the bundle's own commands, in processes of their own, on the phantom; the seconds are
those that `run.json` keeps, by the clock. `--cases` are all images, of which a third are tested and a fifth of the
others validate. Spacing 0 is the knob's default, chosen by the size of the map. With two spacings and several seeds,
the last line is the difference of the mean Dice on the test images, paired by seed, with its 95 % interval (Student's
t).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CONFIGS = Path(__file__).resolve().parents[1] / "bundle" / "configs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512])
    parser.add_argument("--cases", type=int, default=20, help="images of each size")
    parser.add_argument("--spacings", type=int, nargs="*", default=[0], help="cells of u; 0: the default (default 0)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--network", default="resnet34_unet")
    parser.add_argument("--channels", type=int, nargs="*", help="of --network unet")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.12, help="renew_share; 0: every new low (default 0.12)")
    parser.add_argument("--device", help="default: the bundle's own")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| px | images | spacing | seed | training s | renewals s | share | Dice of the network |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            data = phantom(Path(folder) / str(size), size, arguments.cases)
            scores = {spacing: [] for spacing in arguments.spacings}
            for seed in arguments.seeds:
                for spacing in arguments.spacings:
                    found = train(data, Path(folder) / f"run_{size}_{spacing}_{seed}", spacing, seed, arguments)
                    scores[spacing].append(found["dice"])
                    whole, renewed = found["training_seconds"], found["renewal_seconds"]
                    print(
                        f"| {size} | {arguments.cases} | {spacing or 'default'} | {seed} | {whole:.0f} | {renewed:.1f} "
                        f"| {renewed / whole:.3f} | {found['dice']:.4f} |",
                        flush=True,
                    )
            if len(scores) == 2 and len(arguments.seeds) > 1:
                print(paired(size, scores), flush=True)


def phantom(folder: Path, size: int, cases: int) -> Path:
    """Images with 5 pairs of points, in 3 folds."""
    from cvm_monai.data.phantom import generate_phantom
    from cvm_monai.data.prepare import prepare

    generate_phantom(folder, cases=cases, size=size, seed=0)
    prepare(folder, out=folder, pairs=5, folds=3)
    return folder


def train(data: Path, output: Path, spacing: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One training and its test: seconds, and the mean Dice of the test images."""
    knobs: dict[str, Any] = {"dataset_dir": data, "seed": seed, "network": arguments.network, "tracking_uri": "none"}
    knobs |= {"network_channels": arguments.channels, "solver_spacing": spacing or None}
    knobs |= {"max_epochs": arguments.epochs, "renew_share": arguments.share or None}
    knobs |= {"device": arguments.device} if arguments.device else {}
    bundle("training", [CONFIGS / "train.yaml"], output, knobs)
    bundle("evaluating", [CONFIGS / "train.yaml", CONFIGS / "evaluate.yaml"], output, {"stain_shifts": []})
    with (output / "evaluation" / "per_case.csv").open(encoding="utf-8") as lines:
        dice = float(np.nanmean([float(line["dice"] or "nan") for line in csv.DictReader(lines)]))
    return json.loads((output / "run.json").read_text()) | {"dice": dice}


def bundle(run: str, configs: list[Path], output: Path, knobs: dict[str, Any]) -> None:
    """Run a bundle's workflow quietly; its last words where it fails."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run]
    command += ["--config_file", str([str(path) for path in configs]), "--output_dir", str(output)]
    for name, value in knobs.items():
        command += [f"--{name}", str(value) if isinstance(value, str | Path) else json.dumps(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])


def paired(size: int, scores: dict[int, list[float]]) -> str:
    """Second spacing minus the first, with an interval over the seeds."""
    from scipy.stats import t

    (one, first), (other, second) = scores.items()
    found = np.subtract(second, first)
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return (
        f"\n{size} px: spacing {other or 'default'} minus {one or 'default'}: {found.mean():+.4f}, "
        f"95 % interval {found.mean() - half:+.4f} to {found.mean() + half:+.4f} over {len(found)} seeds\n"
    )


if __name__ == "__main__":
    main()
