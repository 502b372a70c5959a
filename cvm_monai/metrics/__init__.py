"""Scores of segmentations, their summaries and paired comparisons, as functions of NumPy arrays."""

from cvm_monai.metrics.claims import CLAIMS, ClaimName, ClaimScores, pool_claims, score_claims
from cvm_monai.metrics.claims_tables import claims_markdown, write_calibration_csv
from cvm_monai.metrics.class_tables import class_metrics, class_summary_markdown, write_per_class_csv
from cvm_monai.metrics.classes import ClassScores, PooledClassScores, macro_mean, score_classes
from cvm_monai.metrics.comparison import Interval, paired_bootstrap
from cvm_monai.metrics.objects import holds_instances, object_labels
from cvm_monai.metrics.segmentation import (
    IGNORED,
    METRICS,
    ImageScores,
    MetricName,
    PooledScores,
    dice_score,
    score_image,
)
from cvm_monai.metrics.significance import grouped_bootstrap, holm, paired_wilcoxon
from cvm_monai.metrics.stain_shifts import (
    STAIN_NAMES,
    ShiftedDice,
    StainName,
    shift_metrics,
    shifts_markdown,
    write_shifts_csv,
)
from cvm_monai.metrics.summary import MetricSummary, Summary, summarise, summarise_claims, summarise_values
from cvm_monai.metrics.tables import CaseScores, summary_markdown, write_per_case_csv

__all__ = [
    "CLAIMS",
    "IGNORED",
    "METRICS",
    "STAIN_NAMES",
    "CaseScores",
    "ClaimName",
    "ClaimScores",
    "ClassScores",
    "ImageScores",
    "Interval",
    "MetricName",
    "MetricSummary",
    "PooledClassScores",
    "PooledScores",
    "ShiftedDice",
    "StainName",
    "Summary",
    "claims_markdown",
    "class_metrics",
    "class_summary_markdown",
    "dice_score",
    "grouped_bootstrap",
    "holds_instances",
    "holm",
    "macro_mean",
    "object_labels",
    "paired_bootstrap",
    "paired_wilcoxon",
    "pool_claims",
    "score_claims",
    "score_classes",
    "score_image",
    "shift_metrics",
    "shifts_markdown",
    "summarise",
    "summarise_claims",
    "summarise_values",
    "summary_markdown",
    "write_calibration_csv",
    "write_per_case_csv",
    "write_per_class_csv",
    "write_shifts_csv",
]
