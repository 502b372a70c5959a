"""Scores of binary segmentations, their summaries and paired comparisons: functions of NumPy arrays."""

from cvm_monai.metrics.claims import CLAIMS, ClaimName, ClaimScores, pool_claims, score_claims
from cvm_monai.metrics.comparison import Interval, paired_bootstrap
from cvm_monai.metrics.segmentation import IGNORED, METRICS, ImageScores, MetricName, PooledScores, score_image
from cvm_monai.metrics.significance import grouped_bootstrap, holm, paired_wilcoxon
from cvm_monai.metrics.summary import MetricSummary, Summary, summarise
from cvm_monai.metrics.tables import CaseScores, summary_markdown, write_per_case_csv

__all__ = [
    "CLAIMS",
    "IGNORED",
    "METRICS",
    "CaseScores",
    "ClaimName",
    "ClaimScores",
    "ImageScores",
    "Interval",
    "MetricName",
    "MetricSummary",
    "PooledScores",
    "Summary",
    "grouped_bootstrap",
    "holm",
    "paired_bootstrap",
    "paired_wilcoxon",
    "pool_claims",
    "score_claims",
    "score_image",
    "summarise",
    "summary_markdown",
    "write_per_case_csv",
]
