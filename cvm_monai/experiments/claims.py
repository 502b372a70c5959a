"""The second table of a comparison: the measured text claims of every method."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.experiments.plan import Run, title
from cvm_monai.experiments.result_tables import ResultTable
from cvm_monai.experiments.scores import FoldMean, Row, fold_mean, over_folds
from cvm_monai.experiments.table import cell
from cvm_monai.files import read_table
from cvm_monai.metrics import CLAIMS, ClaimName
from cvm_monai.metrics.calibration import BINS, Reliability
from cvm_monai.metrics.claims_tables import CALIBRATION_COLUMNS, CLAIM_MEANINGS, CLAIM_TITLES, why_not

HEADING = "The claims in words"
READING = (
    "Cases, folds and settings are those of the first table. Mean ± sample standard deviation over folds; of each fold "
    "the mean over the test cases that define the score, seeds averaged. ECE: of all pixels of a fold's test cases.",
    "Read it beside the Dice: a method that predicts little has few false alarms and no distance. The best value is 1 "
    "for ratios and pieces, so that nothing is bold.",
)


@dataclass(frozen=True)
class ClaimsTable:
    """Contents of the claims table.

    Attributes:
        means: of each method, by claim; in the order of the rows.
        columns: the claims with a value for some method, at most one of the two distances.
        upper: the method shown separately as upper bound, or None.
        images: scored images of each method, over all folds and seeds.
    """

    means: Mapping[str, Mapping[ClaimName, FoldMean]]
    columns: tuple[ClaimName, ...]
    upper: str | None
    images: Mapping[str, int]


def make_claims(rows: Mapping[str, Sequence[Row]], finished: Sequence[Run], *, upper: str | None) -> ClaimsTable:
    """Compute the means of every method that has scores; the upper bound comes last."""
    arms = sorted((arm for arm, own in rows.items() if own), key=lambda arm: arm == upper)
    means = {arm: {name: fold_mean(rows[arm], name) for name in CLAIMS} for arm in arms}
    for arm in arms:
        means[arm]["ece"] = _pooled_ece([run for run in finished if run.arm == arm])
    measured = [name for name in CLAIMS if any(not math.isnan(own[name].mean) for own in means.values())]
    unused = "hd95_px" if _all_in_um([row for own in rows.values() for row in own]) else "hd95_um"
    return ClaimsTable(
        means,
        tuple(name for name in measured if name != unused),
        upper if upper in means else None,
        {arm: len(rows[arm]) for arm in arms},
    )


def claims_table(table: ClaimsTable) -> ResultTable:
    """Format the table as text; a sentence if nothing is measured."""
    if not table.columns:
        return ResultTable(HEADING, (), (), ("Left out: no finished run has measured them.",))
    cells = tuple(
        (
            title(arm) + (" (upper bound)" if arm == table.upper else ""),
            *(cell(means[name]) for name in table.columns),
            str(max(means[name].folds for name in table.columns)),
        )
        for arm, means in table.means.items()
    )
    columns = ("Method", *(CLAIM_TITLES[name] for name in table.columns), "Folds")
    meanings = [f"{CLAIM_TITLES[name]}: {CLAIM_MEANINGS[name]}" for name in table.columns]
    undefined = [note for name in table.columns if (note := _undefined(table, name))]
    return ResultTable(HEADING, columns, cells, (*READING, *meanings, *undefined, *_left_out(table)))


def claims_csv(table: ClaimsTable) -> str:
    """Format one line per method: mean and standard deviation of each column with six decimals, empty if undefined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", *(f"{name}_{part}" for name in table.columns for part in ("mean", "sd", "left_out"))])
    for arm, means in table.means.items():
        entries = [means[name] for name in table.columns]
        values = [[*(_six(value) for value in (entry.mean, entry.sd)), str(entry.left_out)] for entry in entries]
        writer.writerow([arm, *(value for part in values for value in part)])
    return stream.getvalue()


def _pooled_ece(runs: Sequence[Run]) -> FoldMean:
    """Mean ECE from the calibration tables of the runs' evaluations; a run without one is counted as left out."""
    values: dict[int, list[float]] = {}
    for run in runs:
        path = run.folder / "evaluation" / "calibration.csv"
        value = _read_calibration(path).ece if path.is_file() else math.nan
        values.setdefault(run.fold, []).append(value)
    return over_folds(values, left_out=sum(math.isnan(value) for own in values.values() for value in own))


def _read_calibration(path: Path) -> Reliability:
    """Read a table of `write_calibration_csv`; it lacks the squared error, which is NaN."""
    table = [row for _, row in read_table(path, required=CALIBRATION_COLUMNS)]
    try:
        values = np.array([[float(row[name] or 0) for name in CALIBRATION_COLUMNS[2:]] for row in table])
        pixels, probability, target = values.reshape(BINS, 3).T
    except ValueError:
        raise CvmError(f"{path} is damaged: it must hold {BINS} lines of numbers; evaluate the run again") from None
    return Reliability(pixels, probability * pixels, target * pixels, float("nan"))


def _all_in_um(rows: Sequence[Row]) -> bool:
    """Whether every distance is available in micrometres."""
    distances = [row for row in rows if not math.isnan(row.score("hd95_px"))]
    return bool(distances) and not any(math.isnan(row.score("hd95_um")) for row in distances)


def _undefined(table: ClaimsTable, name: ClaimName) -> str | None:
    """Report how many images do not define a claim; for ECE, how many runs lack it."""
    counts = {arm: means[name].left_out for arm, means in table.means.items() if means[name].left_out}
    if not counts:
        return None
    what = "runs" if name == "ece" else "scored images"
    listed = ", ".join(
        f"{title(arm)} {count}" + ("" if name == "ece" else f" of {table.images[arm]}") for arm, count in counts.items()
    )
    return f"{CLAIM_TITLES[name]}: undefined and left out of the mean, in {what}: {listed}."


def _left_out(table: ClaimsTable) -> list[str]:
    """Explain why a claim has no column; one of the two units of a distance is enough."""
    missing = [name for name in CLAIMS if name not in table.columns]
    if "hd95_um" in table.columns or "hd95_px" not in table.columns:
        missing = [name for name in missing if name != ("hd95_px" if "hd95_um" in table.columns else "hd95_um")]
    return [f"No column: {sentence}" for sentence in why_not(missing)]


def _six(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
