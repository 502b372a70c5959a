"""The AOS and primal-dual steps as Triton kernels.

One program of `sweep_down` follows a block of neighbouring columns of one map from the first line to the last and back
(Thomas's algorithm, a thread for each column): loads are contiguous, and as many threads run as all maps have columns.
The primal-dual step is one pass over the dual field and one over u; the gap is a reduction in float64.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH
from cvm_monai.variational.primal_dual import STEP, DualState

COLUMNS = 64
"""Columns per program of `sweep_down`; fewer make more programs, fewer than 32 leave threads idle."""
PIXELS = 1024
"""Pixels per program of the passes over whole maps."""


def sweep_down(u: Tensor, f: Tensor, g: Tensor, *, tau: float, beta: float, alpha: Tensor) -> Tensor:
    """Compute `torch_steps.sweep_down` for contiguous maps (N, H, W) and alpha (N, 1, 1)."""
    count, height, width = u.shape
    solved, share = torch.empty_like(u), torch.empty_like(u)
    grid = (triton.cdiv(width, COLUMNS), count)
    _sweep_kernel[grid](
        u,
        f,
        g,
        alpha.reshape(-1).contiguous(),
        solved,
        share,
        height,
        width,
        *_split(tau),
        *_split(beta),
        CURVATURE=PENALTY_CURVATURE,
        PENALTY=PENALTY_WIDTH,
        BLOCK=COLUMNS,
        num_warps=max(1, COLUMNS // 32),
    )
    return solved


def primal_dual_step(u: Tensor, dual: DualState, f: Tensor, g: Tensor, *, ratio: float = 1.0) -> None:
    """Compute `primal_dual.primal_dual_step` for contiguous maps (N, H, W)."""
    count, height, width = u.shape
    grid = (triton.cdiv(height * width, PIXELS), count)
    down, along, ahead = dual.down, dual.along, dual.extrapolated
    _dual_kernel[grid](down, along, ahead, g, height, width, STEP=STEP * ratio, BLOCK=PIXELS)
    _primal_kernel[grid](u, down, along, ahead, f, height, width, STEP=STEP / ratio, BLOCK=PIXELS)


def relative_gap(u: Tensor, dual: DualState, f: Tensor, g: Tensor) -> Tensor:
    """Compute `primal_dual.relative_gap` for contiguous maps (N, H, W)."""
    count, height, width = u.shape
    blocks = triton.cdiv(height * width, PIXELS)
    sums = torch.empty((3, count, blocks), dtype=torch.float64, device=u.device)
    _gap_kernel[(blocks, count)](u, dual.down, dual.along, f, g, sums, height, width, BLOCK=PIXELS)
    primal, bound, norm = sums.sum(-1)
    return (primal - bound) / norm


def _split(value: float) -> tuple[float, float]:
    """Split a number into a sum of two float32 numbers: Triton passes numbers to a kernel as float32."""
    high = float(np.float32(value))
    return high, value - high


@triton.jit
def _atan(x):
    """Compute the arctangent: two reductions to |t| <= tan(pi / 8), then the polynomial of `compiled.ATAN`."""
    size = tl.abs(x)
    high, low = size > 2.414213562373095, size > 0.41421356237309503
    top = tl.where(high, -1.0, tl.where(low, size - 1.0, size))
    bottom = tl.where(high, size, tl.where(low, size + 1.0, 1.0))
    nothing = size * 0.0  # a zero of x's type: added to the constants, it casts them
    offset = tl.where(high, nothing + 1.5707963267948966, tl.where(low, nothing + 0.7853981633974483, nothing))
    t = top / bottom
    s = t * t
    series = s * 0.021135373157693246 - 0.04348052215716462
    series = series * s + 0.056883492268090106
    series = series * s - 0.06640233930429408
    series = series * s + 0.07689953496306857
    series = series * s - 0.09090773074808414
    series = series * s + 0.11111106180455946
    series = series * s - 0.14285714180976467
    series = series * s + 0.1999999999885511
    series = series * s - 0.3333333333332844
    series = series * s + 1.0
    angle = offset + t * series
    return tl.where(x < 0, -angle, angle)


@triton.jit
def _sweep_kernel(
    u_, f_, g_, alpha_, solved_, share_, height, width, tau_high, tau_low, beta_high, beta_low,
    CURVATURE: tl.constexpr, PENALTY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute coefficients and forward elimination on the way down, back substitution on the way up."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    start = tl.program_id(1).to(tl.int64) * height * width
    left, right = tl.maximum(column - 1, 0), tl.minimum(column + 1, width - 1)
    alpha = tl.load(alpha_ + tl.program_id(1))
    nothing = alpha * 0.0  # a zero of the maps' type
    tau, beta = nothing + tau_high + tau_low, nothing + beta_high + beta_low
    here = tl.load(u_ + start + column, mask=inside, other=0.5)
    coupling, share, known = here * 0.0, here * 0.0, here * 0.0
    for row in range(0, height):
        line = start + row * width
        last = row == height - 1
        after = tl.load(u_ + line + tl.where(last, 0, width) + column, mask=inside, other=0.5)
        across = tl.load(u_ + line + right, mask=inside, other=0.5) - tl.load(u_ + line + left, mask=inside, other=0.5)
        force = tl.load(f_ + line + column, mask=inside, other=0.0)
        edge = tl.load(g_ + line + column, mask=inside, other=1.0)
        slope = here + here - 1.0
        root = tl.sqrt(slope * slope + PENALTY)
        x = (root - 1.0) / PENALTY
        step = 0.5 + (_atan(x) + x / (1.0 + x * x)) * 0.3183098861837907
        near = tl.abs(tl.abs(here - 0.5) - 0.5) <= PENALTY
        main = tl.where(near, 1.0 + tau * alpha * CURVATURE, 1.0)
        target = main * here - tau * (force + alpha * (slope + slope) / root * step)
        ahead = after - here
        fresh = 2 * tau * edge / tl.sqrt(ahead * ahead + 0.25 * across * across + beta)
        fresh = tl.where(last, 0.0, fresh)
        factor = 1.0 / (main + fresh + coupling * (1.0 - share))
        known = (target + coupling * known) * factor
        share = fresh * factor
        coupling = fresh
        tl.store(share_ + line + column, share, mask=inside)
        tl.store(solved_ + line + column, known, mask=inside)
        here = after
    for step_up in range(1, height):
        line = start + (height - 1 - step_up) * width
        part = tl.load(share_ + line + column, mask=inside, other=0.0)
        known = tl.load(solved_ + line + column, mask=inside, other=0.0) + part * known
        tl.store(solved_ + line + column, known, mask=inside)


@triton.jit
def _dual_kernel(down_, along_, ahead_, g_, height, width, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """Update p <- P_g(p + step grad u~)."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    at = tl.program_id(1).to(tl.int64) * height * width + pixel
    has_below, has_right = pixel < (height - 1) * width, pixel % width < width - 1
    here = tl.load(ahead_ + at, mask=inside, other=0.0)
    below = tl.load(ahead_ + at + width, mask=inside & has_below, other=0.0)
    right = tl.load(ahead_ + at + 1, mask=inside & has_right, other=0.0)
    down = tl.load(down_ + at, mask=inside, other=0.0) + tl.where(has_below, STEP * (below - here), 0.0)
    along = tl.load(along_ + at, mask=inside, other=0.0) + tl.where(has_right, STEP * (right - here), 0.0)
    edge = tl.load(g_ + at, mask=inside, other=1.0)
    shrink = edge / tl.maximum(tl.sqrt(down * down + along * along), edge)
    tl.store(down_ + at, down * shrink, mask=inside)
    tl.store(along_ + at, along * shrink, mask=inside)


@triton.jit
def _primal_kernel(u_, down_, along_, ahead_, f_, height, width, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """Update u <- P_[0,1](u + step (div p - f)) and u~ <- 2 u - u_before."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    at = tl.program_id(1).to(tl.int64) * height * width + pixel
    before = tl.load(u_ + at, mask=inside, other=0.0)
    force = tl.load(f_ + at, mask=inside, other=0.0)
    divergence = _divergence(down_, along_, at, pixel, width, inside, before)
    fresh = tl.minimum(tl.maximum(before + STEP * (divergence - force), 0.0), 1.0)
    tl.store(ahead_ + at, fresh + fresh - before, mask=inside)
    tl.store(u_ + at, fresh, mask=inside)


@triton.jit
def _divergence(down_, along_, at, pixel, width, inside, like):
    """Compute div p at each pixel, in the precision of `like`."""
    above = tl.load(down_ + at - width, mask=inside & (pixel >= width), other=0.0).to(like.dtype)
    left = tl.load(along_ + at - 1, mask=inside & (pixel % width > 0), other=0.0).to(like.dtype)
    down = tl.load(down_ + at, mask=inside, other=0.0).to(like.dtype)
    along = tl.load(along_ + at, mask=inside, other=0.0).to(like.dtype)
    return down - above + along - left


@triton.jit
def _gap_kernel(u_, down_, along_, f_, g_, sums_, height, width, BLOCK: tl.constexpr):
    """Compute sum g |grad u| + f u, sum min(0, f - div p) and sum |f| of a block, in float64."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    at = tl.program_id(1).to(tl.int64) * height * width + pixel
    has_below, has_right = pixel < (height - 1) * width, pixel % width < width - 1
    here = tl.load(u_ + at, mask=inside, other=0.0).to(tl.float64)
    below = tl.load(u_ + at + width, mask=inside & has_below, other=0.0).to(tl.float64)
    right = tl.load(u_ + at + 1, mask=inside & has_right, other=0.0).to(tl.float64)
    ahead, across = tl.where(has_below, below - here, 0.0), tl.where(has_right, right - here, 0.0)
    force = tl.load(f_ + at, mask=inside, other=0.0).to(tl.float64)
    edge = tl.load(g_ + at, mask=inside, other=0.0).to(tl.float64)
    divergence = _divergence(down_, along_, at, pixel, width, inside, here)
    primal = edge * tl.sqrt(ahead * ahead + across * across) + force * here
    block = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    count = tl.num_programs(0) * tl.num_programs(1)
    tl.store(sums_ + block, tl.sum(primal))
    tl.store(sums_ + count + block, tl.sum(tl.minimum(force - divergence, 0.0)))
    tl.store(sums_ + 2 * count + block, tl.sum(tl.abs(force)))
