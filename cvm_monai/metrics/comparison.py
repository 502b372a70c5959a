"""Bootstrap confidence interval of the difference between two methods scored on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvm_monai.errors import CvmError

CHUNK = 2**22
"""Values drawn at a time, which limits the memory."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: Sequence[float] | np.ndarray, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of a mean paired difference; the same seed gives the same interval.

    An interval that excludes 0 indicates a difference beyond chance. Percentile intervals are somewhat too narrow below
    about twenty differences.

    Args:
        differences: (n,) score of one method minus score of the other, one per independent unit: if a patient has many
            images, give the mean difference of each patient.
        resamples: raising it makes the ends of the interval more stable, at a proportional cost; 1000 to 100 000.
        seed: of the resampling.
        level: raising it widens the interval; between 0 and 1.

    Raises:
        CvmError: fewer than two differences, undefined ones, a level outside (0, 1), no resamples.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise CvmError(f"differences has shape {values.shape}: give at least two paired differences, one per unit")
    if not np.isfinite(values).all():
        raise CvmError("differences holds NaN: leave out the images where either method has no score")
    if not 0 < level < 1 or resamples < 1:
        raise CvmError(f"level is {level} and resamples is {resamples}: give 0 < level < 1 and at least one resample")
    rng = np.random.default_rng(seed)
    per_chunk = max(1, CHUNK // values.size)
    means = np.concatenate(
        [
            values[rng.integers(values.size, size=(min(per_chunk, resamples - start), values.size))].mean(axis=1)
            for start in range(0, resamples, per_chunk)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))
