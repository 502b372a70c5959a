"""The parts of the edge-aware convex Chan-Vese energy (Eqs. 1 and 6), on (..., H, W) NumPy arrays.

The region means of z are c1 (inside) and c2 (outside); f1 = (z - c1)^2 - (z - c2)^2 is the region term. The data term
of the solver is f = lam * f1 / max|f1|, so that `lam` is relative to the map's own contrast.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

PENALTY_WIDTH = 1e-2
"""Smoothing of the penalty, and half the width of the intervals around 0 and 1 where it is taken implicitly."""
PENALTY_CURVATURE = 161.7127690
"""Second derivative of the penalty at 0 and 1 for that width: the published literal (exact: 161.7127661573)."""


@dataclass(frozen=True)
class Means:
    """Region means of each map, both of shape (..., 1, 1); NaN where a region is empty."""

    inside: np.ndarray
    outside: np.ndarray


def edge_detector(z: np.ndarray, *, strength: float = 10.0, sigma: float = 1.0) -> np.ndarray:
    """g = 1 / (1 + strength |grad G z|^2) in (0, 1], low on the edges of z (the g of Eq. 1).

    G is a Gaussian of `sigma` pixels cut at two sigma, with the nearest value beyond the border; central differences,
    one-sided at the border.

    Args:
        z: (..., H, W).
        strength: raising it lets the contour settle on weaker edges; 1 to 1000.
        sigma: pixels; raising it ignores finer edges; 0 to 3.
    """
    axes = (z.ndim - 2, z.ndim - 1)
    smooth = gaussian_filter(z, sigma, truncate=2.0, mode="nearest", axes=axes) if sigma > 0 else z
    squared = np.zeros_like(smooth)
    for axis in axes:
        if z.shape[axis] > 1:
            squared += np.gradient(smooth, axis=axis) ** 2
    return 1.0 / (1.0 + strength * squared)


def threshold_means(z: np.ndarray) -> Means:
    """Means of z above, and not above, 0.5: where the alternation starts."""
    return weighted_means(z, (z > 0.5).astype(z.dtype))


def weighted_means(z: np.ndarray, u: np.ndarray) -> Means:
    """c1 = sum z u / sum u and c2 = sum z (1-u) / sum (1-u), the closed forms below Eq. 6; u is cut to [0, 1]."""
    weight = np.clip(u, 0.0, 1.0)
    inside = weight.sum(axis=(-2, -1), keepdims=True)
    outside = z.shape[-2] * z.shape[-1] - inside
    product = (z * weight).sum(axis=(-2, -1), keepdims=True)
    rest = z.sum(axis=(-2, -1), keepdims=True) - product
    with np.errstate(divide="ignore", invalid="ignore"):
        return Means(np.where(inside > 0, product / inside, np.nan), np.where(outside > 0, rest / outside, np.nan))


def region_term(z: np.ndarray, means: Means) -> np.ndarray:
    """f1 = (z - c1)^2 - (z - c2)^2, negative where z is nearer to the inside mean."""
    return (z - means.inside) ** 2 - (z - means.outside) ** 2


def penalty(u: np.ndarray) -> np.ndarray:
    """Smoothed max(0, 2|u - 1/2| - 1), which keeps u within [0, 1] (Chan, Esedoglu and Nikolova 2006)."""
    reach = np.sqrt((2 * u - 1) ** 2 + PENALTY_WIDTH) - 1
    return (0.5 + np.arctan(reach / PENALTY_WIDTH) / np.pi) * reach


def penalty_derivative(u: np.ndarray) -> np.ndarray:
    """Derivative of `penalty` with respect to u."""
    slope = 4 * u - 2
    reach = slope * slope
    reach *= 0.25
    reach += PENALTY_WIDTH
    root = np.sqrt(reach, out=reach)
    slope /= root
    ratio = (root - 1) / PENALTY_WIDTH
    step = np.arctan(ratio)
    step += ratio / (1 + ratio * ratio)
    step /= np.pi
    step += 0.5
    step *= slope
    return step


def total_variation_field(u: np.ndarray) -> np.ndarray:
    """|grad u| at each pixel: isotropic, forward differences, zero beyond the far border."""
    squared = np.zeros_like(u)
    squared[..., :-1, :] += np.diff(u, axis=-2) ** 2
    squared[..., :, :-1] += np.diff(u, axis=-1) ** 2
    return np.sqrt(squared)


def energy(u: np.ndarray, z: np.ndarray, g: np.ndarray, means: Means, *, weight: np.ndarray | float) -> np.ndarray:
    """sum g |grad u| + weight sum [(z - c1)^2 u + (z - c2)^2 (1 - u)] of each map (Eq. 6), with u cut to [0, 1].

    `weight` is lam / max|f1|. Eq. 6 leaves out the part in c2 alone, without which it is not bounded in c2.
    """
    clipped = np.clip(u, 0.0, 1.0)
    regions = (z - means.inside) ** 2 * clipped + (z - means.outside) ** 2 * (1 - clipped)
    return (g * total_variation_field(clipped) + weight * regions).sum(axis=(-2, -1))
