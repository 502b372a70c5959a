"""Choose and load the backend that computes a step: NumPy with LAPACK, numba's compiled loops, or torch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from array_api_compat import is_torch_array

from cvm_monai.errors import CvmError
from cvm_monai.variational.chan_vese import Array

BackendName = Literal["auto", "numpy", "numba", "torch"]
GROUP_PIXELS = 1 << 16
"""Pixels of the maps that step together on a CPU: few enough to stay in the cache, many enough to amortise Python."""
ARRAYS_HELD = 24
"""Arrays of the maps' size that a solve on a GPU holds at once, at most."""


@dataclass(frozen=True)
class Backend:
    """The operations on maps (N, H, W) that each backend implements.

    Attributes:
        aos_step: as `aos.step_maps`.
        primal_dual_step: as `primal_dual.primal_dual_step`.
        relative_gap: as `primal_dual.relative_gap`.
    """

    aos_step: Callable[..., Array]
    primal_dual_step: Callable[..., None]
    relative_gap: Callable[..., Array]


def choose(z: Array, backend: BackendName, device: Any) -> tuple[BackendName, Array]:
    """Choose the backend that solves z, and convert z to its array type and device.

    `auto` is torch for maps on (or a `device` that names) anything but a CPU, else numba where it is installed, else
    NumPy.

    Raises:
        CvmError: an unknown backend or device, numba asked for but missing, or numpy or numba on another device than
            a CPU.
    """
    if backend not in get_args(BackendName):
        raise CvmError(f"backend must be one of {get_args(BackendName)}, got {backend!r}")
    place = str(device if device is not None else z.device if is_torch_array(z) else "cpu")
    on_cpu = place.split(":")[0] == "cpu"
    if backend == "auto":
        backend = "torch" if not on_cpu else "numba" if find_spec("numba") else "numpy"
    if backend == "torch":
        import torch

        try:
            torch.empty(0, device=place)
        except (RuntimeError, AssertionError) as error:  # the second where torch was built without it
            raise CvmError(f"device {place!r} cannot be used: {str(error).partition(chr(10))[0][:200]}") from None
        return backend, torch.as_tensor(z).detach().to(place).contiguous()
    if not on_cpu:
        raise CvmError(f"backend {backend!r} computes on the CPU only, got device {place!r}: take 'torch' or 'auto'")
    if backend == "numba" and not find_spec("numba"):
        raise CvmError("backend 'numba' needs numba: pip install numba, or take 'auto'")
    return backend, np.ascontiguousarray(z.detach().cpu().numpy() if is_torch_array(z) else z)


def load(name: BackendName) -> Backend:
    """Return the operations of a backend; its packages are imported only here."""
    if name == "numba":
        from cvm_monai.variational import compiled

        return Backend(compiled.step_maps, compiled.primal_dual_step, compiled.relative_gap)
    from cvm_monai.variational import primal_dual

    if name == "numpy":
        from cvm_monai.variational import aos

        return Backend(aos.step_maps, primal_dual.primal_dual_step, primal_dual.relative_gap)
    from cvm_monai.variational import torch_steps

    return Backend(torch_steps.step_maps, torch_steps.primal_dual_step, torch_steps.relative_gap)


def group_size(z: Array) -> int:
    """Return how many of the maps (N, H, W) fit together into a CPU's cache, or into half of a GPU's free memory."""
    pixels = z.shape[-2] * z.shape[-1]
    if is_torch_array(z) and z.is_cuda:
        import torch

        free, _ = torch.cuda.mem_get_info(z.device)
        return max(1, free // 2 // (ARRAYS_HELD * pixels * z.element_size()))
    return max(1, GROUP_PIXELS // pixels)
