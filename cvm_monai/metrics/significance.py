"""Paired tests of several methods against one, and confidence intervals over patients."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import wilcoxon

from cvm_monai.errors import CvmError
from cvm_monai.metrics.comparison import Interval


def paired_wilcoxon(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that paired differences are symmetric around 0.

    Differences of exactly 0 are left out, as Wilcoxon did; if none is left, p is 1. Below 26 differences without ties
    p is exact; the smallest p of n differences is 2 / 2^n, so five are never significant at 0.05.

    Args:
        differences: (n,) score of one method minus that of the other, one per image.

    Raises:
        CvmError: no difference, or undefined ones.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise CvmError(f"differences must be a list of finite numbers, got shape {values.shape} or NaN in it")
    values = values[values != 0]
    if not values.size:
        return 1.0
    exact = values.size <= 25 and len(np.unique(np.abs(values))) == values.size
    return float(wilcoxon(values, method="exact" if exact else "approx").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm: the probability of any false positive among all tests stays below the level.

    The i-th smallest of m values (i from 0) is multiplied by m - i; the results are made non-decreasing and at most 1.

    Raises:
        CvmError: a value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise CvmError(f"p_values must lie in [0, 1], got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    steps = values[order] * (values.size - np.arange(values.size))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if values.size else steps
    return [float(value) for value in corrected]


def grouped_bootstrap(
    scores: np.ndarray,
    groups: Sequence[str],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic of mean scores; whole groups (patients) are resampled with their images.

    Resamples in which the statistic is not finite count as beyond either end: if their fraction exceeds what the
    interval leaves out, its ends are NaN.

    Args:
        scores: (n, k), k methods on n images, all defined.
        groups: the group of each image.
        statistic: maps means of the k methods in the last axis, (..., k), to values (...).
        resamples, seed, level: as in `paired_bootstrap`.

    Raises:
        CvmError: fewer than two groups, or undefined scores.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise CvmError(f"there is {len(names)} group: an interval needs at least two patients")
    if scores.ndim != 2 or len(scores) != len(member) or not np.isfinite(scores).all():
        raise CvmError(f"scores must be (images, methods) without NaN for {len(member)} images, got {scores.shape}")
    sums = np.zeros((len(names), scores.shape[1]))
    np.add.at(sums, member, scores)
    counts = np.bincount(member)
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = times @ sums / (times @ counts)[:, None]
    values = statistic(means)
    bad = ~np.isfinite(values)
    low = np.quantile(np.where(bad, -np.inf, values), (1 - level) / 2, method="lower")
    high = np.quantile(np.where(bad, np.inf, values), (1 + level) / 2, method="higher")
    ends = [float(end) if np.isfinite(end) else float("nan") for end in (low, high)]
    return Interval(mean=float(statistic(scores.mean(axis=0))), low=ends[0], high=ends[1])
