"""Minimise the energy of Eq. 6 to a certified optimum: Chambolle-Pock with a duality gap.

For fixed c1 and c2 Eq. 6 with u in [0, 1] is the convex problem

    min_{0 <= u <= 1}  sum g |grad u| + sum f u   =   max_{|p| <= g}  sum min(0, f - div p),

and the iteration p <- P_g(p + sigma grad u~), u <- P_[0,1](u + tau (div p - f)), u~ <- 2 u - u_before converges for
sigma tau |grad|^2 < 1, where |grad|^2 <= 8; here sigma = STEP ratio, tau = STEP / ratio. Primal minus dual bounds the
distance of u's energy from the optimum.

The functions take NumPy arrays or torch tensors.

A. Chambolle, T. Pock: A first-order primal-dual algorithm for convex problems with applications to imaging, JMIV 40
(2011).
"""

from dataclasses import dataclass

from array_api_compat import array_namespace

from cvm_monai.variational.chan_vese import Array, total_variation_field

STEP = 0.99 / 8.0**0.5
_AXES = (-2, -1)


@dataclass(frozen=True)
class DualState:
    """The dual field p of maps (..., H, W): its components down and along, and the extrapolated u~."""

    down: Array
    along: Array
    extrapolated: Array


def start_dual(u: Array) -> DualState:
    """Make the initial dual state for a u: p = 0, u~ = u."""
    xp = array_namespace(u)
    return DualState(xp.zeros_like(u), xp.zeros_like(u), xp.asarray(u, copy=True))


def step_ratio(lam: float) -> float:
    """Return the ratio that needs the fewest steps: 1 where the data term dominates, less where it is weak.

    Measured on five maps of 24 to 256 pixels: from lam = 0.5 on within a fifth of the best, at 0.05 two to three times
    faster than a ratio of 1.
    """
    return min(1.0, max(0.25, lam**0.5))


def primal_dual_step(u: Array, dual: DualState, f: Array, g: Array, *, ratio: float = 1.0) -> None:
    """Do one iteration in place for u, f and g of shape (..., H, W): u stays in [0, 1], p within |p| <= g.

    Any `ratio` above 0 converges; raising it moves p faster and u slower.
    """
    xp = array_namespace(u)
    down, along, ahead = dual.down, dual.along, dual.extrapolated
    down[..., :-1, :] += STEP * ratio * (ahead[..., 1:, :] - ahead[..., :-1, :])
    along[..., :, :-1] += STEP * ratio * (ahead[..., :, 1:] - ahead[..., :, :-1])
    length = down * down
    length += along * along
    shrink = g / xp.maximum(xp.sqrt(length), g)
    down *= shrink
    along *= shrink
    fresh = _divergence(down, along)
    fresh -= f
    fresh *= STEP / ratio
    fresh += u
    fresh = xp.clip(fresh, 0.0, 1.0)
    ahead[...] = fresh
    ahead *= 2
    ahead -= u
    u[...] = fresh


def relative_gap(u: Array, dual: DualState, f: Array, g: Array) -> Array:
    """Compute (primal - dual) / sum |f| of each map in float64, shape (...); not below 0 except by rounding."""
    xp = array_namespace(u)
    u, f, g, down, along = (xp.astype(part, xp.float64) for part in (u, f, g, dual.down, dual.along))
    primal = xp.sum(g * total_variation_field(u) + f * u, axis=_AXES)
    bound = xp.sum(xp.clip(f - _divergence(down, along), None, 0.0), axis=_AXES)
    return (primal - bound) / xp.sum(xp.abs(f), axis=_AXES)


def _divergence(down: Array, along: Array) -> Array:
    """Apply the negative adjoint of forward differences; the last row of `down` and column of `along` are zero."""
    result = down + along
    result[..., 1:, :] -= down[..., :-1, :]
    result[..., :, 1:] -= along[..., :, :-1]
    return result
