"""The same energy solved to a certified optimum: Chambolle-Pock with a duality gap.

For fixed c1 and c2 Eq. 6 with u in [0, 1] is the convex problem

    min_{0 <= u <= 1}  sum g |grad u| + sum f u   =   max_{|p| <= g}  sum min(0, f - div p),

and the iteration p <- P_g(p + sigma grad u~), u <- P_[0,1](u + tau (div p - f)), u~ <- 2 u - u_before converges for
sigma tau |grad|^2 < 1, where |grad|^2 <= 8. Primal minus dual bounds how far u is from the optimum.

A. Chambolle, T. Pock: A first-order primal-dual algorithm for convex problems with applications to imaging, JMIV 40
(2011).
"""

from dataclasses import dataclass

import numpy as np

from cvm_monai.variational.chan_vese import total_variation_field

STEP = 0.99 / np.sqrt(8.0)


@dataclass(frozen=True)
class DualState:
    """The dual field p of maps (..., H, W): its component down and along, and the extrapolated u~."""

    down: np.ndarray
    along: np.ndarray
    extrapolated: np.ndarray


def start_dual(u: np.ndarray) -> DualState:
    """The dual state that belongs to a first u: p = 0."""
    return DualState(np.zeros_like(u), np.zeros_like(u), u)


def primal_dual_step(u: np.ndarray, dual: DualState, f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, DualState]:
    """One iteration for u, f and g of shape (..., H, W); the new u lies in [0, 1], the new p within |p| <= g."""
    step = u.dtype.type(STEP)
    down, along = dual.down.copy(), dual.along.copy()
    ahead = dual.extrapolated
    down[..., :-1, :] += step * (ahead[..., 1:, :] - ahead[..., :-1, :])
    along[..., :, :-1] += step * (ahead[..., :, 1:] - ahead[..., :, :-1])
    length = np.sqrt(down * down + along * along)
    shrink = g / np.maximum(length, g)
    down *= shrink
    along *= shrink
    fresh = _divergence(down, along)
    fresh -= f
    fresh *= step
    fresh += u
    np.clip(fresh, 0, 1, out=fresh)
    return fresh, DualState(down, along, 2 * fresh - u)


def relative_gap(u: np.ndarray, dual: DualState, f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(primal - dual) / sum |f| of each map, shape (...); never below 0 but for rounding."""
    axes = (-2, -1)
    u, f, g = (part.astype(np.float64) for part in (u, f, g))
    primal = (g * total_variation_field(u) + f * u).sum(axis=axes)
    residual = f - _divergence(dual.down.astype(np.float64), dual.along.astype(np.float64))
    bound = np.minimum(residual, 0).sum(axis=axes)
    gap: np.ndarray = (primal - bound) / np.abs(f).sum(axis=axes)
    return gap


def _divergence(down: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The negative adjoint of forward differences; the last row of `down` and column of `along` are zero."""
    result = down + along
    result[..., 1:, :] -= down[..., :-1, :]
    result[..., :, 1:] -= along[..., :, :-1]
    return result
