"""The parts of the edge-aware convex Chan-Vese energy (Eqs. 1 and 6), on maps (..., H, W).

The region means of z are c1 (inside) and c2 (outside); f1 = (z - c1)^2 - (z - c2)^2 is the region term. The data term
of the solver is f = lam * f1 / max|f1|, so that `lam` is relative to the map's own contrast.

Every function takes NumPy arrays or torch tensors and returns the same kind, on the same device.
"""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any  # numpy.ndarray or torch.Tensor

PENALTY_WIDTH = 1e-2
"""Smoothing of the penalty, and half the width of the intervals around 0 and 1 where it is treated implicitly."""
PENALTY_CURVATURE = 161.7127690
"""Second derivative of the penalty at 0 and 1 for that width: the published literal (exact: 161.7127661573)."""
_AXES = (-2, -1)


@dataclass(frozen=True)
class Means:
    """Region means of each map, both of shape (..., 1, 1); NaN where a region is empty."""

    inside: Array
    outside: Array


def edge_detector(z: Array, *, strength: float = 10.0, sigma: float = 1.0) -> Array:
    """Compute g = 1 / (1 + strength |grad G z|^2) in (0, 1], low on the edges of z (the g of Eq. 1).

    G is a Gaussian of `sigma` pixels truncated at two sigma, with the nearest value beyond the border. The gradient
    takes central differences, one-sided at the border.

    Args:
        z: (..., H, W).
        strength: raising it lets the contour settle on weaker edges; 1 to 1000.
        sigma: pixels; raising it ignores finer edges; 0 to 3.
    """
    return 1.0 / (1.0 + strength * squared_gradient(z, sigma=sigma))


def squared_gradient(z: Array, *, sigma: float = 1.0) -> Array:
    """Compute |grad G z|^2 of maps (..., H, W), with G and the differences of `edge_detector`."""
    smooth = _smooth(_smooth(z, sigma, axis=-2), sigma, axis=-1)
    return _gradient(smooth, axis=-2) ** 2 + _gradient(smooth, axis=-1) ** 2


def threshold_means(z: Array) -> Means:
    """Compute the means of z above, and not above, 0.5: the initial c1 and c2."""
    return weighted_means(z, array_namespace(z).astype(z > 0.5, z.dtype))


def weighted_means(z: Array, u: Array) -> Means:
    """Compute c1 = sum z u / sum u and c2 = sum z (1-u) / sum (1-u) (below Eq. 6); u is clipped to [0, 1]."""
    xp = array_namespace(z)
    weight = xp.clip(u, 0.0, 1.0)
    inside, product, total = (_sums(part) for part in (weight, z * weight, z))
    outside, rest = z.shape[-2] * z.shape[-1] - inside, total - product
    nothing = xp.full_like(inside, math.nan)
    c1 = xp.where(inside > 0, product / xp.where(inside > 0, inside, 1.0), nothing)
    c2 = xp.where(outside > 0, rest / xp.where(outside > 0, outside, 1.0), nothing)
    return Means(xp.astype(c1, z.dtype), xp.astype(c2, z.dtype))


def region_term(z: Array, means: Means) -> Array:
    """Compute f1 = (z - c1)^2 - (z - c2)^2, negative where z is nearer to the inside mean."""
    return (z - means.inside) ** 2 - (z - means.outside) ** 2


def penalty(u: Array) -> Array:
    """Compute the smoothed max(0, 2|u - 1/2| - 1), which keeps u in [0, 1] (Chan, Esedoglu and Nikolova 2006)."""
    xp = array_namespace(u)
    reach = xp.sqrt((2 * u - 1) ** 2 + PENALTY_WIDTH) - 1
    return (0.5 + xp.atan(reach / PENALTY_WIDTH) / math.pi) * reach


def penalty_derivative(u: Array) -> Array:
    """Compute the derivative of `penalty` with respect to u."""
    xp = array_namespace(u)
    slope = 4 * u - 2
    root = slope * slope
    root *= 0.25
    root += PENALTY_WIDTH
    root = xp.sqrt(root)
    slope /= root
    root -= 1
    root /= PENALTY_WIDTH
    step = xp.atan(root)
    step += root / (1 + root * root)
    step /= math.pi
    step += 0.5
    step *= slope
    return step


def total_variation_field(u: Array) -> Array:
    """Compute |grad u| at each pixel: isotropic, forward differences, zero in the last row and column."""
    xp = array_namespace(u)
    squared = xp.zeros_like(u)
    squared[..., :-1, :] += (u[..., 1:, :] - u[..., :-1, :]) ** 2
    squared[..., :, :-1] += (u[..., :, 1:] - u[..., :, :-1]) ** 2
    return xp.sqrt(squared)


def energy(u: Array, z: Array, g: Array, means: Means, *, weight: Array | float, fitting: Array | None = None) -> Array:
    """Energy sum g |grad u| + weight sum [(z - c1)^2 u + (z - c2)^2 (1 - u)] + sum fitting u of each map (Eq. 6).

    u is clipped to [0, 1]. `weight` is lam / max|f1|; `fitting` is an additional data term, such as a selective
    model's. Eq. 6 of the paper omits the term in c2 alone, without which the energy is unbounded in c2.
    """
    clipped = array_namespace(u).clip(u, 0.0, 1.0)
    terms = (z - means.inside) ** 2 * clipped + (z - means.outside) ** 2 * (1 - clipped)
    terms *= weight
    terms += g * total_variation_field(clipped)
    if fitting is not None:
        terms += fitting * clipped
    return _sums(terms)[..., 0, 0]


def _sums(values: Array) -> Array:
    """Sum of each map, accumulated in float64, as (..., 1, 1)."""
    xp = array_namespace(values)
    return xp.sum(values, axis=_AXES, keepdims=True, dtype=xp.float64)


def _smooth(values: Array, sigma: float, *, axis: int) -> Array:
    """Smooth along an axis by a Gaussian of `sigma`, truncated at two sigma; the nearest value beyond the border."""
    radius = int(2 * sigma + 0.5)
    if radius == 0:
        return values
    taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    length, total = values.shape[axis], sum(taps)
    padded = _extend(values, radius, axis=axis)
    return sum((tap / total) * _part(padded, start, start + length, axis=axis) for start, tap in enumerate(taps))


def _gradient(values: Array, *, axis: int) -> Array:
    """Central differences, one-sided at both ends; zero along an axis of length one."""
    length, padded = values.shape[axis], _extend(values, 1, axis=axis)
    difference = _part(padded, 2, length + 2, axis=axis) - _part(padded, 0, length, axis=axis)
    inner = _part(difference, 1, length - 1, axis=axis)
    inner *= 0.5  # a view: the ends keep their one-sided difference
    return difference


def _extend(values: Array, count: int, *, axis: int) -> Array:
    """Pad the values with `count` copies of the nearest one at both ends of an axis."""
    length = values.shape[axis]
    first, last = _part(values, 0, 1, axis=axis), _part(values, length - 1, length, axis=axis)
    return array_namespace(values).concat([first] * count + [values] + [last] * count, axis=axis)


def _part(values: Array, start: int, stop: int, *, axis: int) -> Array:
    """Slice values[start:stop] along axis -2 or -1."""
    return values[..., start:stop, :] if axis == -2 else values[..., start:stop]
