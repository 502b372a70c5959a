"""Format the per-case table and the summary of a test with more than two classes."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

from cvm_monai.files import write_table
from cvm_monai.metrics.classes import ClassScores, macro_mean
from cvm_monai.metrics.segmentation import METRICS, ImageScores, MetricName
from cvm_monai.metrics.summary import summarise, summarise_values
from cvm_monai.metrics.tables import MEANINGS, TITLES, mean_and_sd, number


def write_per_class_csv(path: str | Path, rows: Sequence[ClassScores], *, names: Sequence[str]) -> None:
    """Write one line per case, six decimals, an empty cell for an undefined score.

    The columns are case_id, patient_id, n_pixels, the means over the foreground classes (`dice`, ...), then the scores
    of each class (`dice_<name>`, ...). The file is replaced atomically; its folder is created.

    Args:
        names: of the foreground classes.
    """
    single = [f"{metric}_{name}" for name in names for metric in METRICS]
    lines = [["case_id", "patient_id", "n_pixels", *METRICS, *single]]
    for row in rows:
        values = [row.mean(metric) for metric in METRICS]
        values += [getattr(scores, metric) for scores in row.scores for metric in METRICS]
        cells = ["" if isnan(value) else f"{value:.6f}" for value in values]
        lines.append([row.case_id, row.patient_id, str(row.scores[0].n_pixels), *cells])
    write_table(Path(path), lines)


def class_summary_markdown(
    rows: Sequence[ClassScores],
    pooled: Sequence[ImageScores],
    *,
    names: Sequence[str],
    facts: Mapping[str, object],
    resolution: str,
) -> str:
    """Write the summary of a test in Markdown: rules, means over the classes, a table per class, facts of the run.

    Args:
        rows: every tested case.
        pooled: all pixels together, for each foreground class, of `PooledClassScores`.
        names: of the foreground classes.
        facts, resolution: as in `summary_markdown`.

    Raises:
        CvmError: no row.
    """
    images, patients = len(rows), len({row.patient_id for row in rows})
    lines = [
        "# Test results",
        "",
        f"{images} image{'s' * (images != 1)} of {patients} patient{'s' * (patients != 1)}, "
        f"{len(names)} foreground classes.",
        "",
        "How the numbers were made:",
        "",
        f"- Measured at {resolution}; a pixel is predicted as its likeliest class.",
        "- Each class is scored against all else. *Mean ± SD*: each image by itself, all images weigh the same (SD: "
        "sample standard deviation). *Pooled*: the pixels of all images together.",
        "- *Mean of the classes*: in each image, over the foreground classes that define the score, each the same.",
        "- A score that an image does not define (no pixel of the class in truth and prediction) is left out of the "
        "mean, never counted as 0 or 1. *Images* says how many were counted, and how many left out.",
        "",
        "## Mean of the classes",
        "",
        *_table([(metric, [row.mean(metric) for row in rows]) for metric in METRICS], _macro(pooled)),
        "",
    ]
    for index, name in enumerate(names):
        values = [(metric, [getattr(row.scores[index], metric) for row in rows]) for metric in METRICS]
        lines += [f"## {name}", "", *_table(values, {m: getattr(pooled[index], m) for m in METRICS}), ""]
    lines += [f"- {TITLES[metric]}: {MEANINGS[metric]}" for metric in METRICS]
    lines += ["", "## The run", "", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def class_metrics(
    rows: Sequence[ClassScores], pooled: Sequence[ImageScores], *, names: Sequence[str]
) -> dict[str, float]:
    """Collect metrics for tracking, undefined ones as NaN.

    `test_dice`, `test_dice_sd`, `test_pooled_dice`, ... of the means over the classes, and `test_dice_<name>` of each
    class.

    Raises:
        CvmError: no row.
    """
    found: dict[str, float] = {}
    together = _macro(pooled)
    for metric in METRICS:
        summary = summarise_values([row.mean(metric) for row in rows])
        found |= {f"test_{metric}": summary.mean, f"test_{metric}_sd": summary.sd}
        found[f"test_pooled_{metric}"] = together[metric]
    for index, name in enumerate(names):
        single = summarise([row.scores[index] for row in rows])
        found |= {f"test_{metric}_{name}": entry.mean for metric, entry in single.metrics.items()}
    return found


def _macro(pooled: Sequence[ImageScores]) -> dict[str, float]:
    return {metric: macro_mean([getattr(scores, metric) for scores in pooled]) for metric in METRICS}


def _table(values: Sequence[tuple[MetricName, Sequence[float]]], pooled: Mapping[str, float]) -> list[str]:
    lines = ["| Metric | Mean ± SD over images | Images | Pooled |", "|---|---|---|---|"]
    for metric, scores in values:
        summary = summarise_values(scores)
        images = f"{summary.n} ({summary.left_out} left out)" if summary.left_out else f"{summary.n}"
        lines.append(f"| {TITLES[metric]} | {mean_and_sd(summary)} | {images} | {number(pooled[metric])} |")
    return lines
