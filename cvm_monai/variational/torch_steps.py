"""The AOS and primal-dual steps in torch, for batches of maps on any device.

On CUDA with Triton they are the fused kernels of `cvm_monai.variational.fused`; elsewhere plain torch, where a step of
AOS is a loop over the lines of a map whose every operation covers all lines of all maps.
"""

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from cvm_monai.variational import primal_dual
from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH, penalty_derivative
from cvm_monai.variational.primal_dual import DualState


def step_maps(u: Tensor, f: Tensor, g: Tensor, *, tau: float, beta: float, alpha: Tensor, out: Tensor) -> Tensor:
    """Compute an AOS step of maps (N, H, W), alpha (N, 1, 1), into `out`: see `cvm_monai.variational.aos.aos_step`."""
    fused = _fused(u.device.type)
    sweep = sweep_down if fused is None else fused.sweep_down
    down = sweep(u, f, g, tau=tau, beta=beta, alpha=alpha)
    along = sweep(*(part.mT.contiguous() for part in (u, f, g)), tau=tau, beta=beta, alpha=alpha)
    return torch.add(down, along.mT, out=out).mul_(0.5)


def primal_dual_step(u: Tensor, dual: DualState, f: Tensor, g: Tensor, *, ratio: float = 1.0) -> None:
    """Do one iteration in place for maps (N, H, W): see `cvm_monai.variational.primal_dual`."""
    fused = _fused(u.device.type)
    (primal_dual if fused is None else fused).primal_dual_step(u, dual, f, g, ratio=ratio)


def relative_gap(u: Tensor, dual: DualState, f: Tensor, g: Tensor) -> Tensor:
    """Compute (primal - dual) / sum |f| of maps (N, H, W) in float64: see `cvm_monai.variational.primal_dual`."""
    fused = _fused(u.device.type)
    gap: Tensor = (primal_dual if fused is None else fused).relative_gap(u, dual, f, g)
    return gap


def sweep_down(u: Tensor, f: Tensor, g: Tensor, *, tau: float, beta: float, alpha: Tensor) -> Tensor:
    """Solve (B^-1 - 2 tau A(u)) x = B^-1 u - tau f - tau alpha nu'(u) down the columns of maps (N, H, W)."""
    height, width = u.shape[-2:]
    near_bound = ((u - 0.5).abs() - 0.5).abs() <= PENALTY_WIDTH
    diagonal = 1.0 + tau * alpha * PENALTY_CURVATURE * near_bound
    right = diagonal * u - tau * (f + alpha * penalty_derivative(u))
    coupling = torch.zeros_like(u)
    if height > 1:
        columns = torch.arange(width, device=u.device)
        across = u[..., (columns + 1).clamp(max=width - 1)] - u[..., (columns - 1).clamp(min=0)]
        steep = (u[..., 1:, :] - u[..., :-1, :]) ** 2 + 0.25 * across[..., :-1, :] ** 2 + beta
        coupling[..., :-1, :] = 2 * tau * g[..., :-1, :] / steep.sqrt()
    main = diagonal + coupling
    main[..., 1:, :] += coupling[..., :-1, :]
    for row in range(1, height):
        factor = coupling[..., row - 1, :] / main[..., row - 1, :]
        main[..., row, :] -= factor * coupling[..., row - 1, :]
        right[..., row, :] += factor * right[..., row - 1, :]
    right[..., -1, :] /= main[..., -1, :]
    for row in range(height - 2, -1, -1):
        right[..., row, :] += coupling[..., row, :] * right[..., row + 1, :]
        right[..., row, :] /= main[..., row, :]
    return right


@cache
def _fused(device_type: str) -> ModuleType | None:
    """Return the module of Triton kernels, or None where they cannot run."""
    if device_type != "cuda":
        return None
    try:
        from cvm_monai.variational import fused
    except ImportError:
        return None
    return fused
