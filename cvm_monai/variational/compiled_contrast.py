"""The mean contrast of every pair of points compiled by numba: two passes over blocks that stay in the cache."""

import numpy as np
from numba import njit

BLOCK = 2048
"""Pixels of all maps that are held in the cache at a time."""


def mean_contrast(inside: np.ndarray, outside: np.ndarray, *, eta: float) -> np.ndarray:
    """Compute what `contrast.mean_contrast` does, for contiguous arrays (P, N) and (Q, N) of one floating type."""
    result = np.zeros_like(inside)
    low = np.full((len(inside), len(outside)), np.inf, inside.dtype)
    high = np.zeros_like(low)
    factor = inside.dtype.type(eta)
    _extremes(inside, outside, factor, low, high)
    low, high = low**2, high**2  # squares of numbers of at least 0: their order stays
    span = (high - low) * inside.dtype.type(len(outside))
    scale = np.where(span > 0, 1 / np.where(span > 0, span, 1), 0).astype(inside.dtype)
    _accumulate(inside, outside, factor, low, scale, result)
    return result


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz", "reassoc"})
def _extremes(inside, outside, eta, low, high):
    """Update the least and the greatest max(0, S_p - eta S_q) of each pair."""
    zero = inside.dtype.type(0.0)
    for start in range(0, inside.shape[1], BLOCK):
        stop = min(start + BLOCK, inside.shape[1])
        for p in range(inside.shape[0]):
            for q in range(outside.shape[0]):
                least, most = low[p, q], high[p, q]
                for i in range(start, stop):
                    value = max(inside[p, i] - eta * outside[q, i], zero)
                    least = min(least, value)
                    most = max(most, value)
                low[p, q], high[p, q] = least, most


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(inside, outside, eta, low, scale, result):
    """Add (max(0, S_p - eta S_q)^2 - low) scale of every q to the result of p."""
    zero = inside.dtype.type(0.0)
    for start in range(0, inside.shape[1], BLOCK):
        stop = min(start + BLOCK, inside.shape[1])
        for p in range(inside.shape[0]):
            for q in range(outside.shape[0]):
                least, factor = low[p, q], scale[p, q]
                for i in range(start, stop):
                    value = max(inside[p, i] - eta * outside[q, i], zero)
                    result[p, i] += (value * value - least) * factor
