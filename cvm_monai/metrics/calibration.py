"""Calibration of a probability: expected calibration error and Brier score, of one image or of many."""

from dataclasses import dataclass

import numpy as np

BINS = 15
"""Number of bins, of equal width in the probability of the target."""


@dataclass(frozen=True)
class Reliability:
    """Counts of pixels in `BINS` bins of their probability of the target; counts of several images can be added.

    Attributes:
        pixels: (BINS,) in each bin.
        probability: (BINS,) sum of their probabilities.
        target: (BINS,) number of target pixels.
        squared_error: sum over all pixels of (probability - target)^2.
    """

    pixels: np.ndarray
    probability: np.ndarray
    target: np.ndarray
    squared_error: float

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.pixels + other.pixels,
            self.probability + other.probability,
            self.target + other.target,
            self.squared_error + other.squared_error,
        )

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over pixels of |mean probability - fraction of target| of their bin; [0, 1].

        NaN without pixels. For one image it is larger than for many pooled, since random differences do not cancel.
        """
        total = self.pixels.sum()
        return float(np.abs(self.probability - self.target).sum() / total) if total else float("nan")

    @property
    def brier(self) -> float:
        """Mean of (probability - target)^2 over pixels: 0 = certain and right, 0.25 = always 0.5; NaN without any."""
        total = self.pixels.sum()
        return self.squared_error / float(total) if total else float("nan")


def reliability(probability: np.ndarray, target: np.ndarray) -> Reliability:
    """Count pixels by bin; a bin includes its lower end, the last one also 1.

    Args:
        probability: (n,) of the target, in [0, 1].
        target: (n,) bool.
    """
    values = np.clip(probability, 0, 1, dtype=np.float64)
    bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return Reliability(
        pixels=np.bincount(bins, minlength=BINS),
        probability=np.bincount(bins, weights=values, minlength=BINS),
        target=np.bincount(bins[target], minlength=BINS),
        squared_error=float(((values - target) ** 2).sum()),
    )
