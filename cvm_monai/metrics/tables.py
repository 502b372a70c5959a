"""Format the per-case table and the summary of a test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from cvm_monai.files import write_table
from cvm_monai.metrics.claims import CLAIMS, ClaimScores
from cvm_monai.metrics.segmentation import METRICS, ImageScores, MetricName
from cvm_monai.metrics.summary import MetricSummary, summarise

COLUMNS = ("case_id", "patient_id", "n_pixels", "target_fraction", *METRICS, *CLAIMS, "note")

TITLES: Mapping[MetricName, str] = {
    "dice": "Dice",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "kappa": "Cohen's kappa",
    "auc": "AUC",
}

MEANINGS: Mapping[MetricName, str] = {
    "dice": "overlap of the predicted with the true target area: 0 = none, 1 = the same area.",
    "accuracy": "share of pixels that are right. High by itself where target is rare.",
    "precision": "share of the predicted area that truly is target. It does not see what was missed.",
    "kappa": "agreement of prediction and truth beyond chance: 0 = chance, 1 = perfect.",
    "auc": "how well the probability ranks target above background, whatever the threshold: 0.5 = chance, 1 = perfect.",
}


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case; `claims` is None if they were not measured."""

    case_id: str
    patient_id: str
    scores: ImageScores
    claims: ClaimScores | None = None

    @property
    def note(self) -> str:
        """Explain undefined scores; empty if all are defined and the truth has both classes."""
        scores, reasons = self.scores, []
        if scores.n_pixels == 0:
            reasons.append("no pixel with ground truth")
        elif scores.n_target == 0:
            reasons.append("no target in the ground truth")
        elif scores.one_class:
            reasons.append("no background in the ground truth")
        if scores.n_pixels and scores.n_predicted == 0:
            reasons.append("nothing predicted")
        undefined = [name for name in METRICS if isnan(getattr(scores, name))]
        return ", ".join(reasons) + (f": {', '.join(undefined)} undefined" if undefined else "")


def write_per_case_csv(path: str | Path, rows: Sequence[CaseScores]) -> None:
    """Write one line per case, in the given order: the columns of `COLUMNS`, six decimals.

    An undefined score is an empty cell, and `note` says why one of the five metrics is undefined. The file is replaced
    atomically, so that it is complete or absent; its folder is created.
    """
    write_table(Path(path), [COLUMNS, *map(_cells, rows)])


def summary_markdown(
    rows: Sequence[CaseScores],
    pooled: ImageScores,
    *,
    facts: Mapping[str, object],
    resolution: str,
    threshold: float = 0.5,
) -> str:
    """Write the summary of a test in Markdown: rules, table, worst, median and best case, facts of the run.

    Args:
        rows: every tested case.
        pooled: scores over all pixels together, from `PooledScores`.
        facts: name and value of each fact about the run, in the order shown: method, fold, seed, network, epochs,
            rule of model selection.
        resolution: at which the scores were measured, such as "the image's own resolution (0.62 um/px)".
        threshold: at which the scores were measured.

    Raises:
        CvmError: no row.
    """
    summary = summarise([row.scores for row in rows])
    patients = len({row.patient_id for row in rows})
    lines = [
        "# Test results",
        "",
        f"{_count(summary.n_images, 'image')} of {_count(patients, 'patient')}; in {summary.n_one_class} the ground "
        "truth has one class only.",
        "",
        "How the numbers were made:",
        "",
        f"- Measured at {resolution}; a pixel is predicted as target where its probability is above {threshold:g}.",
        "- *Mean ± SD*: each image is scored by itself and all images weigh the same (SD: sample standard deviation).",
        "- *Pooled*: the pixels of all images together, so that large images weigh more.",
        "- A score that an image does not define (no target, nothing predicted) is left out of the mean, never counted "
        "as 0 or 1. *Images* says how many were counted, and how many left out.",
        "",
        "| Metric | Mean ± SD over images | Images | Pooled |",
        "|---|---|---|---|",
        *(_table_line(name, summary.metrics[name], getattr(pooled, name)) for name in METRICS),
        "",
        *(f"- {TITLES[name]}: {MEANINGS[name]}" for name in METRICS),
        "",
        *_extremes(rows),
        "",
        "## The run",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: CaseScores) -> list[str]:
    scores = row.scores
    fraction = scores.n_target / scores.n_pixels if scores.n_pixels else float("nan")
    values = [fraction, *(getattr(scores, name) for name in METRICS)]
    values += [getattr(row.claims, name, float("nan")) for name in CLAIMS]
    numbers = ["" if isnan(value) else f"{value:.6f}" for value in values]
    return [row.case_id, row.patient_id, str(scores.n_pixels), *numbers, row.note]


def _table_line(name: MetricName, metric: MetricSummary, pooled: float) -> str:
    images = f"{metric.n} ({metric.left_out} left out)" if metric.left_out else f"{metric.n}"
    return f"| {TITLES[name]} | {mean_and_sd(metric)} | {images} | {number(pooled)} |"


def _extremes(rows: Sequence[CaseScores]) -> list[str]:
    """Find worst, median (the lower of two middle ones) and best case by Dice."""
    ranked = sorted((row.scores.dice, row.case_id) for row in rows if not isnan(row.scores.dice))
    if not ranked:
        return ["No image defines a Dice."]
    chosen = (("Worst", ranked[0]), ("Median", ranked[(len(ranked) - 1) // 2]), ("Best", ranked[-1]))
    return [f"- {word} case by Dice: `{case_id}` ({dice:.3f})" for word, (dice, case_id) in chosen]


def mean_and_sd(metric: MetricSummary) -> str:
    """Format as ``0.812 ± 0.034``; the mean alone if there is only one image."""
    return number(metric.mean) if metric.n < 2 else f"{number(metric.mean)} ± {number(metric.sd)}"


def number(value: float) -> str:
    """Format with three decimals, or as `undefined`."""
    return "undefined" if isnan(value) else f"{value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
