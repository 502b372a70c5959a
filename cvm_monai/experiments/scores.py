"""Read the scores of all runs from their `per_case.csv`, and compute their means."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.experiments.plan import Run
from cvm_monai.files import read_table, shown, write_text
from cvm_monai.metrics import CLAIMS, METRICS, ClaimName, MetricName

COLUMNS = ("method", "fold", "seed", "case_id", "patient_id", "n_pixels", "target_fraction", *METRICS, *CLAIMS, "note")


@dataclass(frozen=True)
class Row:
    """One test case of one run; `cells` are its columns in `per_case.csv` as text."""

    arm: str
    fold: int
    seed: int
    case_id: str
    patient_id: str
    cells: Mapping[str, str]

    def score(self, name: MetricName | ClaimName) -> float:
        """Return one score; NaN if it is undefined or was not measured."""
        return float(self.cells[name]) if self.cells.get(name) else math.nan


@dataclass(frozen=True)
class FoldMean:
    """Mean over folds of a metric (each fold: mean over its cases, seeds averaged), and its standard deviation.

    Attributes:
        mean: NaN if no fold defines it.
        sd: sample standard deviation over folds (ddof = 1); NaN below two folds.
        folds: number of folds with a value.
        left_out: undefined scores of cases, over all folds and seeds.
    """

    mean: float
    sd: float
    folds: int
    left_out: int


def read_rows(run: Run) -> list[Row]:
    """Read the scores of a finished run.

    Raises:
        CvmError: the file is damaged.
    """
    path = run.folder / "evaluation" / "per_case.csv"
    rows = []
    for line, cells in read_table(path, required=("case_id", "patient_id", *METRICS)):
        for name in (*METRICS, *CLAIMS):
            _check_score(cells.get(name), where=f"{path}, line {line}", name=name)
        rows.append(Row(run.arm, run.fold, run.seed, cells["case_id"], cells["patient_id"], cells))
    return rows


def _check_score(text: str | None, *, where: str, name: str) -> None:
    """Check that a score is a number; an empty one is undefined."""
    try:
        known = not text or math.isfinite(float(text))
    except ValueError:
        known = False
    if not known:
        raise CvmError(f"{where}: {name} must be a number or empty, got {shown(text)}: evaluate the run again")


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all scores of all runs into one table, with the columns `COLUMNS`."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *(_line(row) for row in rows)])
    write_text(path, stream.getvalue())


def fold_mean(rows: Sequence[Row], name: MetricName | ClaimName) -> FoldMean:
    """Compute the mean over folds of one metric of one method."""
    folds = sorted({row.fold for row in rows})
    values = {}
    for fold in folds:
        seeds = sorted({row.seed for row in rows if row.fold == fold})
        means = [_mean([row.score(name) for row in rows if (row.fold, row.seed) == (fold, seed)]) for seed in seeds]
        values[fold] = means
    return over_folds(values, left_out=sum(math.isnan(row.score(name)) for row in rows))


def over_folds(values: Mapping[int, Sequence[float]], *, left_out: int) -> FoldMean:
    """Average {fold: one value of each seed} over seeds, then over folds."""
    defined = np.array([value for own in values.values() if not math.isnan(value := _mean(own))])
    return FoldMean(
        mean=float(defined.mean()) if defined.size else math.nan,
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        folds=defined.size,
        left_out=left_out,
    )


def run_means(rows: Sequence[Row], name: MetricName = "dice") -> list[float]:
    """Mean over cases of each run, fold by fold and seed by seed; a run without a defined value is left out."""
    runs = sorted({(row.fold, row.seed) for row in rows})
    means = [_mean([row.score(name) for row in rows if (row.fold, row.seed) == run]) for run in runs]
    return [value for value in means if not math.isnan(value)]


def case_means(rows: Sequence[Row], name: MetricName = "dice") -> dict[str, float]:
    """Return {case id: score averaged over seeds}; a case that is undefined for one seed is left out."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.case_id, []).append(row.score(name))
    means = {case: float(np.mean(values)) for case, values in scores.items()}
    return {case: value for case, value in sorted(means.items()) if not math.isnan(value)}


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _line(row: Row) -> list[str]:
    first = [row.arm, str(row.fold), str(row.seed), row.case_id, row.patient_id]
    return [*first, *(row.cells.get(name, "") for name in COLUMNS[len(first) :])]
