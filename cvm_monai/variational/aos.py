"""Additive operator splitting (AOS) for the energy of Eq. 6: the scheme of Roberts, Spencer and Chen, vectorised.

One step solves, for the rows and for the columns,

    (B^-1 - 2 tau A_l(u)) u_l = B^-1 u - tau f - tau alpha nu'(u),        u <- (u_x + u_y) / 2,

where A_l is the edge-weighted diffusion along one axis with its coefficients frozen at u (forward differences along the
axis, central ones across it), nu is the penalty that keeps u in [0, 1], and B^-1 = 1 + tau alpha nu''(0) within
PENALTY_WIDTH of 0 and 1, else 1. Multiplying by B^-1 makes the systems symmetric positive definite and diagonally
dominant, so that they need no pivoting. The lines of one direction are laid end to end with zero
coupling between them, and solved as long systems by LAPACK's ptsv, one block of lines at a time, so that the arrays of
a block fit into the processor's cache whatever the size of the map.

M. Roberts, K. Chen, K. L. Irion: A convex geodesic selective model for image segmentation, JMIV 61 (2019);
J. Weickert, B. ter Haar Romeny, M. Viergever: Efficient and reliable schemes for nonlinear diffusion filtering (1998).
"""

from itertools import pairwise

import numpy as np
from scipy.linalg import get_lapack_funcs

from cvm_monai.errors import CvmError
from cvm_monai.variational.arrays import check_array, check_numbers
from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH, penalty_derivative
from cvm_monai.variational.scratch import scratch

BLOCK_BYTES = 1 << 16
"""Bytes of each of the dozen arrays that a block of lines needs: together they fit into a second-level cache."""
FEWEST_COLUMNS = 160
"""From this width on Thomas's algorithm in NumPy, row by row, is faster than LAPACK on transposed columns."""


def aos_step(
    u: np.ndarray,
    f: np.ndarray,
    g: np.ndarray,
    *,
    tau: float,
    beta: float,
    alpha: np.ndarray | float,
) -> np.ndarray:
    """Compute one AOS step for maps u, f and g of shape (..., H, W).

    Args:
        u: current segmentation.
        f: data term, lam * f1 / max|f1|.
        g: edge detector.
        tau: step size; raising it moves further in a step and biases the stationary point; 1e-3 to 1e-1.
        beta: smoothing of the total variation, added under the square root; raising it blurs; 1e-8 to 1e-3.
        alpha: weight of the penalty, at least half of max|f|. A scalar, or one for each map as (..., 1, 1).

    Returns:
        The new u; not clipped: it may leave [0, 1] by less than PENALTY_WIDTH.

    Raises:
        CvmError: shapes that differ, values that are not finite, or a tau or beta that is not positive.
    """
    for name, given in (("u", u), ("f", f), ("g", g), ("alpha", np.asarray(alpha))):
        check_array(given, name)
    check_numbers(tau=tau, beta=beta)
    if u.ndim < 2 or u.shape != f.shape or u.shape != g.shape:
        raise CvmError(f"u, f and g must have one shape (..., H, W), got {u.shape}, {f.shape} and {g.shape}")
    for name, maps in (("u", u), ("f", f), ("g", g), ("alpha", alpha)):
        if not np.isfinite(maps).all():
            raise CvmError(f"{name} must be finite, got {np.size(maps) - np.isfinite(maps).sum()} NaN or infinity")
    for name, value in (("tau", tau), ("beta", beta)):
        if not 0 < value < np.inf:
            raise CvmError(f"{name} must be a finite number greater than 0, got {value!r}")
    flat = (np.ascontiguousarray(part).reshape(-1, *u.shape[-2:]) for part in (u, f, g))
    alphas = np.broadcast_to(np.asarray(alpha, u.dtype), (*u.shape[:-2], 1, 1)).reshape(-1, 1, 1)
    out = np.empty((len(alphas), *u.shape[-2:]), u.dtype)
    return step_maps(*flat, tau=tau, beta=beta, alpha=alphas, out=out).reshape(u.shape)


def step_maps(
    u: np.ndarray, f: np.ndarray, g: np.ndarray, *, tau: float, beta: float, alpha: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """`aos_step` without checks, for contiguous maps (N, H, W) and alpha (N, 1, 1), into `out`."""
    for index in range(len(u)):  # one map at a time stays in the cache
        _step_one(u[index], f[index], g[index], tau=tau, beta=beta, alpha=alpha[index].item(), out=out[index])
    return out


def _step_one(
    u: np.ndarray, f: np.ndarray, g: np.ndarray, *, tau: float, beta: float, alpha: float, out: np.ndarray
) -> None:
    """Compute the step for one map (H, W): along the rows, one block at a time, then down the columns."""
    diagonal, right, down = scratch(3, u.shape, u.dtype)
    for rows in _blocks(u.shape[0], u.shape[1] * u.itemsize):
        around = _with_neighbours(u, rows)
        diagonal[rows], right[rows] = _diagonal_and_right(around[1:-1], f[rows], tau=tau, alpha=alpha)
        along, down[rows] = _couplings(around, g[rows], tau=tau, beta=beta)
        out[rows] = _solve_rows(along, diagonal[rows], right[rows])
    down[-1] = 0
    out += _solve_columns(down, diagonal, right)
    out *= 0.5


def _blocks(lines: int, line_bytes: int) -> list[slice]:
    count = max(1, BLOCK_BYTES // line_bytes)
    return [slice(start, min(start + count, lines)) for start in range(0, lines, count)]


def _diagonal_and_right(u: np.ndarray, f: np.ndarray, *, tau: float, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute B^-1 and the right-hand side B^-1 u - tau f - tau alpha nu'(u)."""
    diagonal = u - 0.5
    np.abs(diagonal, out=diagonal)
    diagonal -= 0.5
    np.abs(diagonal, out=diagonal)
    np.less_equal(diagonal, PENALTY_WIDTH, out=diagonal)
    diagonal *= tau * alpha * PENALTY_CURVATURE
    diagonal += 1.0
    right = penalty_derivative(u)
    right *= -alpha
    right -= f
    right *= tau
    right += diagonal * u
    return diagonal, right


def _with_neighbours(u: np.ndarray, lines: slice) -> np.ndarray:
    """Copy lines of u with the line before and the line after them; beyond the border the nearest line is repeated."""
    low, high = max(lines.start - 1, 0), min(lines.stop + 1, len(u))
    around = np.empty((lines.stop - lines.start + 2, u.shape[1]), u.dtype)
    around[low - lines.start + 1 : high - lines.start + 1] = u[low:high]
    if lines.start == 0:
        around[0] = around[1]
    if lines.stop == len(u):
        around[-1] = around[-2]
    return around


def _couplings(around: np.ndarray, g: np.ndarray, *, tau: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute 2 tau g / |grad u| between each pixel and the next one along its row, and down its column.

    |grad u| takes the forward difference in the coupling's own direction and the central one across it, at the border
    half the one-sided difference. The coupling along is zero at the end of each row; that down is not yet.
    """
    centre = around[1:-1]
    flat, forward = centre.reshape(-1), np.empty_like(g)
    np.subtract(flat[1:], flat[:-1], out=forward.reshape(-1)[:-1])  # from row to row too: overwritten below
    forward[:, -1] = 0
    central = np.empty_like(g)
    np.add(forward.reshape(-1)[1:], forward.reshape(-1)[:-1], out=central.reshape(-1)[1:])
    central[0, 0] = forward[0, 0]
    along = _coupling(forward, around[2:] - around[:-2], g, tau=tau, beta=beta)
    along[:, -1] = 0
    return along, _coupling(around[2:] - centre, central, g, tau=tau, beta=beta)


def _coupling(forward: np.ndarray, across: np.ndarray, g: np.ndarray, *, tau: float, beta: float) -> np.ndarray:
    """Compute 2 tau g / sqrt(forward^2 + (across / 2)^2 + beta) in place of `forward`; overwrites `across` too."""
    forward *= forward
    across *= across
    across *= 0.25
    forward += across
    forward += beta
    np.sqrt(forward, out=forward)
    np.divide(g, forward, out=forward)
    forward *= 2 * tau
    return forward


def _solve_rows(coupling: np.ndarray, diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the symmetric tridiagonal systems along contiguous lines; each line's last coupling is zero."""
    main, below = diagonal + coupling, coupling.reshape(-1)[:-1]
    flat = main.reshape(-1)
    flat[1:] += below
    if flat.size == 1:
        return right / main
    (ptsv,) = get_lapack_funcs(("ptsv",), (right,))
    _, _, solved, info = ptsv(flat, np.negative(below, out=below), right.reshape(-1), overwrite_d=1, overwrite_e=1)
    lines: np.ndarray = solved.reshape(right.shape)
    if info != 0:  # not positive definite: something overflowed
        lines[...] = np.nan
    return lines


def _solve_columns(coupling: np.ndarray, diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the same systems down the columns, by Thomas's algorithm on all columns; overwrites its arguments."""
    if coupling.shape[1] < FEWEST_COLUMNS:
        return _solve_rows(*(np.ascontiguousarray(part.T) for part in (coupling, diagonal, right))).T
    diagonal += coupling
    diagonal[1:] += coupling[:-1]
    lines = list(zip(coupling, diagonal, right, strict=True))
    factor, product = np.empty_like(right[0]), np.empty_like(right[0])
    for (below, above_main, above), (_, main, here) in pairwise(lines):
        np.divide(below, above_main, out=factor)
        main -= np.multiply(factor, below, out=product)
        here += np.multiply(factor, above, out=product)
    right[-1] /= diagonal[-1]
    for (_, _, after), (below, main, here) in pairwise(reversed(lines)):
        here += np.multiply(below, after, out=product)
        here /= main
    return right
