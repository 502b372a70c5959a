"""Scores of segmentations, their summaries and paired comparisons: functions of NumPy arrays."""

from cvm_monai.metrics.class_tables import class_metrics, class_summary_markdown, write_per_class_csv
from cvm_monai.metrics.classes import ClassScores, PooledClassScores, score_classes
from cvm_monai.metrics.comparison import Interval, paired_bootstrap
from cvm_monai.metrics.segmentation import IGNORED, METRICS, ImageScores, MetricName, PooledScores, score_image
from cvm_monai.metrics.significance import grouped_bootstrap, holm, paired_wilcoxon
from cvm_monai.metrics.summary import MetricSummary, Summary, summarise
from cvm_monai.metrics.tables import CaseScores, summary_markdown, write_per_case_csv

__all__ = [
    "IGNORED",
    "METRICS",
    "CaseScores",
    "ClassScores",
    "ImageScores",
    "Interval",
    "MetricName",
    "MetricSummary",
    "PooledClassScores",
    "PooledScores",
    "Summary",
    "class_metrics",
    "class_summary_markdown",
    "grouped_bootstrap",
    "holm",
    "paired_bootstrap",
    "paired_wilcoxon",
    "score_classes",
    "score_image",
    "summarise",
    "summary_markdown",
    "write_per_case_csv",
    "write_per_class_csv",
]
