"""Additive operator splitting (AOS) for the energy of Eq. 6: the scheme of Roberts, Spencer and Chen, vectorised.

One step solves, for the rows and for the columns,

    (B^-1 - 2 tau A_l(u)) u_l = B^-1 u - tau f - tau alpha nu'(u),        u <- (u_x + u_y) / 2,

where A_l is the edge-weighted diffusion along one axis with its coefficients frozen at u (forward differences along the
axis, central ones across it), nu is the penalty that keeps u in [0, 1], and B^-1 = 1 + tau alpha nu''(0) within
PENALTY_WIDTH of 0 and 1, else 1. Multiplying by B^-1 makes the systems symmetric positive definite and diagonally
dominant, so that they need no pivoting. The lines of one direction are laid end to end with zero
coupling between them, and solved as long systems by LAPACK's ptsv in blocks that fit the processor's cache.

M. Roberts, K. Chen, K. L. Irion: A convex geodesic selective model for image segmentation, JMIV 61 (2019);
J. Weickert, B. ter Haar Romeny, M. Viergever: Efficient and reliable schemes for nonlinear diffusion filtering (1998).
"""

import numpy as np
from scipy.linalg import get_lapack_funcs

from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH, penalty_derivative

BLOCK_PIXELS = 1 << 14
"""Unknowns of one LAPACK call: three such arrays stay within a second-level cache."""


def aos_step(
    u: np.ndarray,
    f: np.ndarray,
    g: np.ndarray,
    *,
    tau: np.ndarray | float,
    beta: float,
    alpha: np.ndarray | float,
) -> np.ndarray:
    """One AOS step for maps u, f and g of shape (..., H, W).

    Args:
        u: current segmentation.
        f: data term, lam * f1 / max|f1|.
        g: edge detector.
        tau: step size; raising it moves further in a step and biases the stationary point; 1e-3 to 1e-1. A scalar, or
            one for each map as (..., 1, 1).
        beta: smoothing of the total variation, added under the square root; raising it blurs; 1e-8 to 1e-3.
        alpha: weight of the penalty, at least half of max|f|. A scalar, or (..., 1, 1).

    Returns:
        The new u; not cut to [0, 1], which it leaves by less than PENALTY_WIDTH.
    """
    taus, alphas = (np.broadcast_to(value, (*u.shape[:-2], 1, 1)) for value in (tau, alpha))
    solution = np.empty_like(u)
    for index in np.ndindex(u.shape[:-2]):  # one map at a time stays in the cache
        step = {"tau": u.dtype.type(taus[index].item()), "alpha": u.dtype.type(alphas[index].item())}
        solution[index] = _step_one(u[index], f[index], g[index], beta=beta, **step)
    return solution


def _step_one(
    u: np.ndarray, f: np.ndarray, g: np.ndarray, *, tau: np.floating, beta: float, alpha: np.floating
) -> np.ndarray:
    """The step for one map (H, W)."""
    near_bound = (np.abs(np.abs(u - 0.5) - 0.5)) <= PENALTY_WIDTH
    diagonal = 1.0 + tau * alpha * u.dtype.type(PENALTY_CURVATURE) * near_bound
    right = penalty_derivative(u)
    right *= -(tau * alpha)
    right -= tau * f
    right += diagonal * u
    down, along = _couplings(u, g, beta)
    down *= 2 * tau
    along *= 2 * tau
    solution = _solve_lines(along, diagonal, right)
    turned = _solve_lines(*(np.ascontiguousarray(part.T) for part in (down, diagonal, right)))
    solution += turned.T
    solution *= 0.5
    return solution


def _couplings(u: np.ndarray, g: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Coupling of each pixel with the next one down, and along: g / |grad u|, zero at the end of each line."""
    return _coupling(u, g, beta, axis=-2), _coupling(u, g, beta, axis=-1)


def _coupling(u: np.ndarray, g: np.ndarray, beta: float, *, axis: int) -> np.ndarray:
    forward, across = np.moveaxis(u, axis, 0), np.moveaxis(_central(u, axis=-3 - axis), axis, 0)
    coupling = np.zeros_like(u)
    target = np.moveaxis(coupling, axis, 0)[:-1]
    np.subtract(forward[1:], forward[:-1], out=target)
    target *= target
    target += across[:-1] ** 2
    target += beta
    np.sqrt(target, out=target)
    np.divide(np.moveaxis(g, axis, 0)[:-1], target, out=target)
    return coupling


def _central(u: np.ndarray, *, axis: int) -> np.ndarray:
    """Half the difference of both neighbours along an axis; at the two borders half the one-sided difference."""
    values = np.moveaxis(u, axis, 0)
    result = np.zeros_like(u)
    target = np.moveaxis(result, axis, 0)
    if len(values) > 1:
        np.subtract(values[2:], values[:-2], out=target[1:-1])
        np.subtract(values[1], values[0], out=target[0])
        np.subtract(values[-1], values[-2], out=target[-1])
        result *= 0.5
    return result


def _solve_lines(coupling: np.ndarray, diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the symmetric tridiagonal systems along the last axis; each line's last coupling is zero."""
    lines, width = right.size // right.shape[-1], right.shape[-1]
    main = diagonal + coupling
    main[..., 1:] += coupling[..., :-1]
    flat_main, flat_right = main.reshape(-1), right.reshape(-1)
    below = -coupling.reshape(-1)
    (ptsv,) = get_lapack_funcs(("ptsv",), (flat_right,))
    solution = np.empty_like(flat_right)
    step = max(1, BLOCK_PIXELS // width) * width
    for start in range(0, lines * width, step):
        stop = min(start + step, lines * width)
        part = slice(start, stop)
        if stop - start == 1:
            solution[part] = flat_right[part] / flat_main[part]
            continue
        _, _, solved, info = ptsv(
            flat_main[part], below[start : stop - 1], flat_right[part], overwrite_d=1, overwrite_e=1
        )
        if info != 0:
            raise ValueError(f"the AOS system is not positive definite at unknown {start + info}: u or f is not finite")
        solution[part] = solved.reshape(-1)
    return solution.reshape(right.shape)
