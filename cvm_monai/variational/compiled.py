"""The AOS and primal-dual steps compiled by numba: the same arithmetic in one pass, without temporaries.

The inner loops hold elementary operations only, so that the compiler vectorises them:
the arctangent of the penalty is a polynomial after two reductions of its argument, equal to the library's to a few
units in the last place. Every constant is cast to the map's type, which keeps float32 maps in float32. The functions
release the GIL, so that threads solve several maps at once.
"""

import math

import numpy as np
from numba import njit

from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH
from cvm_monai.variational.primal_dual import STEP, DualState
from cvm_monai.variational.scratch import scratch

LANES = 16
"""Rows solved side by side: enough independent recurrences to hide the latency of a division."""
PADDING = 24
"""Unused pixels behind each row of a block of LANES rows."""
COLUMNS = 128
"""Columns solved side by side: whole cache lines, and few enough for their scratch arrays to fit into the cache."""
ATAN = (
    1.0,
    -0.3333333333332844,
    0.1999999999885511,
    -0.14285714180976467,
    0.11111106180455946,
    -0.09090773074808414,
    0.07689953496306857,
    -0.06640233930429408,
    0.056883492268090106,
    -0.04348052215716462,
    0.021135373157693246,
)
"""atan(t) / t as a polynomial in t^2 for |t| <= tan(pi / 8), by Chebyshev interpolation; error 4e-17."""
LIMIT_LOW, LIMIT_HIGH = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)


def step_maps(
    u: np.ndarray, f: np.ndarray, g: np.ndarray, *, tau: float, beta: float, alpha: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Compute an AOS step of maps (N, H, W), alpha (N, 1, 1), into `out`: see `cvm_monai.variational.aos.aos_step`."""
    real = u.dtype.type
    diagonal, right, down = scratch(3, u.shape[1:], u.dtype)
    _aos_maps(u, f, g, alpha.reshape(-1), real(tau), real(beta), diagonal, right, down, out)
    return out


def primal_dual_step(u: np.ndarray, dual: DualState, f: np.ndarray, g: np.ndarray, *, ratio: float = 1.0) -> None:
    """Do one iteration in place for maps (N, H, W): see `cvm_monai.variational.primal_dual`."""
    real = u.dtype.type
    _primal_dual_maps(u, dual.down, dual.along, dual.extrapolated, f, g, real(STEP * ratio), real(STEP / ratio))


def relative_gap(u: np.ndarray, dual: DualState, f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Compute (primal - dual) / sum |f| of maps (N, H, W) in float64: see `cvm_monai.variational.primal_dual`."""
    sums = np.zeros((len(u), 3))
    _gap_sums(u, dual.down, dual.along, f, g, sums)
    return (sums[:, 0] - sums[:, 1]) / sums[:, 2]


@njit(cache=True, nogil=True, error_model="numpy")
def _aos_maps(u, f, g, alpha, tau, beta, diagonal, right, down, out):
    for n in range(u.shape[0]):
        _aos_map(u[n], f[n], g[n], alpha[n], tau, beta, diagonal, right, down, out[n])


@njit(cache=True, nogil=True, error_model="numpy")
def _aos_map(u, f, g, alpha, tau, beta, diagonal, right, down, out):
    height, width = u.shape
    # rows of a power of two in bytes would map to one set of the first-level cache: the padding avoids that
    block = np.empty((4, LANES, width + PADDING), u.dtype)
    main, known, along, solved = block[0], block[1], block[2], block[3]
    forward, central = np.empty(width, u.dtype), np.empty(width, u.dtype)
    for start in range(0, height, LANES):
        stop = min(start + LANES, height)
        lines = stop - start
        for line in range(lines):
            row = start + line
            above, below = u[max(row - 1, 0)], u[min(row + 1, height - 1)]
            _diagonal_and_right(u[row], f[row], tau, alpha, main[line], known[line])
            _along_differences(u[row], forward, central)
            _row_couplings(u[row], above, below, g[row], forward, central, tau, beta, along[line], down[row])
            along[line, width - 1] = 0
            diagonal[row], right[row] = main[line, :width], known[line, :width]
        _solve_rows(along, main, known, solved, lines, width)
        out[start:stop] = solved[:lines, :width]
    down[height - 1] = 0
    share, carried = np.empty((height, COLUMNS), u.dtype), np.empty((height, COLUMNS), u.dtype)
    for start in range(0, width, COLUMNS):
        part = slice(start, min(start + COLUMNS, width))
        _solve_columns(down[:, part], diagonal[:, part], right[:, part], share, carried, out[:, part])


@njit(cache=True, nogil=True, error_model="numpy")
def _diagonal_and_right(u, f, tau, alpha, diagonal, right):
    """Compute B^-1 and B^-1 u - tau f - tau alpha nu'(u) of one row."""
    real = u.dtype.type
    half, one, zero = real(0.5), real(1.0), real(0.0)
    width, scale = real(PENALTY_WIDTH), real(1.0 / PENALTY_WIDTH)
    low, high = real(LIMIT_LOW), real(LIMIT_HIGH)
    quarter_turn, eighth_turn, over_pi = real(math.pi / 2), real(math.pi / 4), real(1.0 / math.pi)
    added = tau * alpha * real(PENALTY_CURVATURE)
    for i in range(u.size):
        value = u[i]
        slope = value + value - one
        root = math.sqrt(slope * slope + width)
        x = (root - one) * scale
        size = abs(x)
        # atan(|x|) = offset + atan(top / bottom) with |top / bottom| <= tan(pi / 8)
        top = -one if size > high else (size - one if size > low else size)
        bottom = size if size > high else (size + one if size > low else one)
        offset = quarter_turn if size > high else (eighth_turn if size > low else zero)
        t = top / bottom
        s = t * t
        series = real(ATAN[10])
        series = series * s + real(ATAN[9])
        series = series * s + real(ATAN[8])
        series = series * s + real(ATAN[7])
        series = series * s + real(ATAN[6])
        series = series * s + real(ATAN[5])
        series = series * s + real(ATAN[4])
        series = series * s + real(ATAN[3])
        series = series * s + real(ATAN[2])
        series = series * s + real(ATAN[1])
        series = series * s + one
        angle = offset + t * series
        angle = -angle if x < zero else angle
        step = half + (angle + x / (one + x * x)) * over_pi
        main = one + added if abs(abs(value - half) - half) <= width else one
        diagonal[i] = main
        right[i] = main * value - tau * (f[i] + alpha * (slope + slope) / root * step)


@njit(cache=True, nogil=True, error_model="numpy")
def _along_differences(u, forward, central):
    """Compute forward differences along a row, zero at its end, and twice the central ones, one-sided at both ends."""
    width = u.size
    for i in range(width - 1):
        forward[i] = u[i + 1] - u[i]
    forward[width - 1] = 0
    central[0] = forward[0]
    for i in range(1, width):
        central[i] = forward[i] + forward[i - 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _row_couplings(u, above, below, g, forward, central, tau, beta, along, down):
    """Compute 2 tau g / |grad u| along a row and down from it."""
    quarter = u.dtype.type(0.25)
    for i in range(u.size):
        weight = (tau + tau) * g[i]
        across, ahead = below[i] - above[i], below[i] - u[i]
        along[i] = weight / math.sqrt(forward[i] * forward[i] + quarter * across * across + beta)
        down[i] = weight / math.sqrt(ahead * ahead + quarter * central[i] * central[i] + beta)


@njit(cache=True, nogil=True, error_model="numpy")
def _solve_rows(coupling, diagonal, right, out, lines, width):
    """Solve up to LANES rows side by side by Thomas's algorithm; overwrites `coupling`."""
    before, share, known = np.zeros(lines, right.dtype), np.zeros(lines, right.dtype), np.zeros(lines, right.dtype)
    one = right.dtype.type(1.0)
    for i in range(width):
        for line in range(lines):
            here = coupling[line, i]
            factor = one / (diagonal[line, i] + here + before[line] * (one - share[line]))
            known[line] = (right[line, i] + before[line] * known[line]) * factor
            share[line] = here * factor
            before[line] = here
            coupling[line, i] = share[line]
            out[line, i] = known[line]
    for i in range(width - 2, -1, -1):
        for line in range(lines):
            known[line] = out[line, i] + coupling[line, i] * known[line]
            out[line, i] = known[line]


@njit(cache=True, nogil=True, error_model="numpy")
def _solve_columns(coupling, diagonal, right, share, known, out):
    """Solve up to COLUMNS columns by Thomas's algorithm; `out` becomes the mean of the solution and its old content."""
    height, lines = right.shape
    one, half = right.dtype.type(1.0), right.dtype.type(0.5)
    for line in range(lines):
        factor = one / (diagonal[0, line] + coupling[0, line])
        share[0, line] = coupling[0, line] * factor
        known[0, line] = right[0, line] * factor
    for row in range(1, height):
        for line in range(lines):
            before = coupling[row - 1, line]
            here = coupling[row, line]
            factor = one / (diagonal[row, line] + here + before * (one - share[row - 1, line]))
            share[row, line] = here * factor
            known[row, line] = (right[row, line] + before * known[row - 1, line]) * factor
    for line in range(lines):
        out[height - 1, line] = half * (out[height - 1, line] + known[height - 1, line])
    for row in range(height - 2, -1, -1):
        for line in range(lines):
            known[row, line] += share[row, line] * known[row + 1, line]
            out[row, line] = half * (out[row, line] + known[row, line])


@njit(cache=True, nogil=True, error_model="numpy")
def _primal_dual_maps(u, down, along, ahead, f, g, dual_step, primal_step):
    for n in range(u.shape[0]):
        height, width = u.shape[1:]
        for row in range(height):
            _dual_row(
                ahead[n, row], ahead[n, min(row + 1, height - 1)], g[n, row], dual_step, down[n, row], along[n, row]
            )
            above = down[n, row - 1] if row > 0 else np.zeros(width, u.dtype)
            _primal_row(u[n, row], ahead[n, row], f[n, row], above, down[n, row], along[n, row], primal_step)


@njit(cache=True, nogil=True, error_model="numpy")
def _dual_row(ahead, below, g, step, down, along):
    """Update p <- P_g(p + step grad u~) of one row; `below` is the row itself for the last row of a map."""
    last = ahead.size - 1
    for i in range(ahead.size):
        down[i] += step * (below[i] - ahead[i])
    for i in range(last):
        along[i] += step * (ahead[i + 1] - ahead[i])
    for i in range(ahead.size):
        length = math.sqrt(down[i] * down[i] + along[i] * along[i])
        shrink = g[i] / max(length, g[i])
        down[i] *= shrink
        along[i] *= shrink


@njit(cache=True, nogil=True, error_model="numpy")
def _primal_row(u, ahead, f, above, down, along, step):
    """Update u <- P_[0,1](u + step (div p - f)) and u~ <- 2 u - u_before of one row."""
    zero, one = u.dtype.type(0.0), u.dtype.type(1.0)
    for i in range(u.size):
        divergence = down[i] - above[i] + along[i] - (along[i - 1] if i > 0 else zero)
        fresh = min(max(u[i] + step * (divergence - f[i]), zero), one)
        ahead[i] = fresh + fresh - u[i]
        u[i] = fresh


@njit(cache=True, nogil=True, error_model="numpy")
def _gap_sums(u, down, along, f, g, sums):
    """Compute sum g |grad u| + f u, sum min(0, f - div p) and sum |f| of each map."""
    height, width = u.shape[1:]
    nothing = np.zeros(width, u.dtype)
    for n in range(u.shape[0]):
        for row in range(height):
            below, above = u[n, min(row + 1, height - 1)], down[n, row - 1] if row > 0 else nothing
            primal, bound, norm = _gap_row(u[n, row], below, above, down[n, row], along[n, row], f[n, row], g[n, row])
            sums[n, 0] += primal
            sums[n, 1] += bound
            sums[n, 2] += norm


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _gap_row(u, below, above, down, along, f, g):
    """Compute the three sums of one row; the compiler may reorder the terms, and so vectorise them."""
    primal, bound, norm = 0.0, 0.0, 0.0
    last = u.size - 1
    for i in range(u.size):
        here, force = np.float64(u[i]), np.float64(f[i])
        right = np.float64(u[i + 1]) - here if i < last else 0.0
        left = np.float64(along[i - 1]) if i > 0 else 0.0
        ahead = np.float64(below[i]) - here
        divergence = np.float64(down[i]) - np.float64(above[i]) + np.float64(along[i]) - left
        primal += np.float64(g[i]) * math.sqrt(ahead * ahead + right * right) + force * here
        bound += min(force - divergence, 0.0)
        norm += abs(force)
    return primal, bound, norm
