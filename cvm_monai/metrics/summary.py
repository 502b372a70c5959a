"""Mean and spread of scores over images; undefined values are excluded and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.metrics.claims import CLAIMS, ClaimName, ClaimScores
from cvm_monai.metrics.segmentation import METRICS, ImageScores, MetricName


@dataclass(frozen=True)
class MetricSummary:
    """One metric over images.

    Attributes:
        mean: over the images for which it is defined; NaN if there is none.
        sd: sample standard deviation (ddof = 1) over the same images; NaN below two of them.
        n: images counted.
        left_out: images for which it is undefined.
        median: over the images for which it is defined; NaN if there is none.
    """

    mean: float
    sd: float
    n: int
    left_out: int
    median: float


@dataclass(frozen=True)
class Summary:
    """All metrics over images.

    Attributes:
        metrics: by name, in the order of `METRICS`.
        n_images: number of all images.
        n_one_class: images whose truth lacks target or background.
    """

    metrics: Mapping[MetricName, MetricSummary]
    n_images: int
    n_one_class: int


def summarise(scores: Sequence[ImageScores]) -> Summary:
    """Compute mean and standard deviation of every metric over images.

    Every image has the same weight. An undefined value excludes its image from that metric only, and is counted. The
    standard deviation divides by n - 1: the images are a sample.

    Raises:
        CvmError: no image.
    """
    if not scores:
        raise CvmError("there is no image to summarise: score at least one")
    return Summary(
        metrics={name: summarise_values([getattr(score, name) for score in scores]) for name in METRICS},
        n_images=len(scores),
        n_one_class=sum(score.one_class for score in scores),
    )


def summarise_claims(scores: Sequence[ClaimScores]) -> dict[ClaimName, MetricSummary]:
    """Summarise every claim, by name, as `summarise` does.

    Raises:
        CvmError: no image.
    """
    if not scores:
        raise CvmError("there is no image to summarise: score at least one")
    return {name: summarise_values([getattr(score, name) for score in scores]) for name in CLAIMS}


def summarise_values(values: Sequence[float]) -> MetricSummary:
    """Compute mean and standard deviation of one score over images; NaN is excluded and counted."""
    defined = np.array([value for value in values if not np.isnan(value)])
    return MetricSummary(
        mean=float(defined.mean()) if defined.size else float("nan"),
        sd=float(defined.std(ddof=1)) if defined.size > 1 else float("nan"),
        n=defined.size,
        left_out=len(values) - defined.size,
        median=float(np.median(defined)) if defined.size else float("nan"),
    )
