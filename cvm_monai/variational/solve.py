"""Minimise the edge-aware Chan-Vese energy of Eq. 6, by any method, backend and device."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from joblib import Parallel, cpu_count, delayed

from cvm_monai.errors import CvmError
from cvm_monai.knobs import MeansRule, SolverName
from cvm_monai.variational import backends
from cvm_monai.variational.arrays import check_array, check_whole
from cvm_monai.variational.backends import BackendName
from cvm_monai.variational.chan_vese import Array
from cvm_monai.variational.loop import solve_maps
from cvm_monai.variational.result import Solution
from cvm_monai.variational.settings import Settings

FACTS = ("c1", "c2", "energy", "gap", "iterations")


def solve(
    z: Array,
    *,
    method: SolverName = Settings.method,
    lam: float = Settings.lam,
    iterations: int = Settings.iterations,
    tolerance: float = Settings.tolerance,
    tau: float = Settings.tau,
    beta: float = Settings.beta,
    means: MeansRule = Settings.means,
    fitting: Array | None = None,
    history: bool = False,
    device: Any = None,
    backend: BackendName = "auto",
    workers: int = 1,
) -> Solution:
    """Minimise the energy of Eq. 6 for each map of z, starting from u = z; the defaults are those of the bundle.

    Args:
        z: (..., H, W) maps in [0, 1], float32 or float64, NumPy or torch; any H and W.
        method: `aos`, the paper's additive operator splitting, an approximation whose bias grows with tau; or
            `primal_dual`, Chambolle-Pock, which bounds the distance to the optimum.
        lam: weight of the data term relative to its own maximum; lowering it smooths more and drops small parts;
            0.05 to 10.
        iterations: maximum number of steps; five of `aos` (as the authors' script) smooth z a little, hundreds approach
            its stationary point; `primal_dual` needs 50 to 500.
        tolerance: stop when ||u - u_before|| / ||u_before|| (`aos`) or the relative gap (`primal_dual`) of a map falls
            below this; 0 runs all iterations.
        tau: step size of `aos`, multiplied by 0.9 (not below 1e-3) before every 50th step; see `aos_step`.
        beta: smoothing of the total variation of `aos`; see `aos_step`.
        means: `alternating` updates c1 and c2 from u (Eq. 6's closed forms), every MEANS_INTERVAL steps of `aos`, or
            whenever the gap of `primal_dual` meets the tolerance, until they converge; `fixed` keeps the means of z
            above and not above 0.5.
        fitting: additional data term, added to f, of z's shape or one that broadcasts to it: theta D for the
            selective models of Section 3 (`euclidean_distance`, `geodesic_distance`); raising theta pulls the region
            closer to the points; theta 0.1 to 5 beside lam.
        history: also return the energy after each step (costs about a third more).
        device: where torch computes; by default where z is. The result has z's kind and device.
        backend: `auto` is torch for other devices than a CPU, else numba where it is installed,
            else NumPy. The results agree to rounding.
        workers: number of cores over which the maps are divided, -1 for all: threads with numba, processes with NumPy
            (which take a second to start, once), no effect with torch.

    Returns:
        A `Solution`; a map that cannot be segmented has a status that says why, and does not affect the others.

    Raises:
        CvmError: z of fewer than two dimensions or another type, a fitting term that does not fit or is not finite,
            or a tunable out of its range.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> z = np.full((32, 32), 0.1)
        >>> z[8:24, 8:24] = 0.9
        >>> solution = cvm.solve(z, lam=1.0)
        >>> solution.status.item().name, bool(solution.gap < 1e-3), int((solution.u > 0.5).sum())
        ('CONVERGED', True, 256)
    """
    settings = Settings(
        method=method, lam=lam, iterations=iterations, tolerance=tolerance, tau=tau, beta=beta, means=means
    )
    check_whole(workers=workers)
    _check_maps(z)
    term = None if fitting is None else _check_fitting(fitting, z)
    name, maps = backends.choose(z, backend, device)
    height, width = maps.shape[-2:]
    flat = array_namespace(maps).reshape(maps, (-1, height, width))
    if term is not None:
        term = (
            array_namespace(flat).asarray(backends.choose(term, name, device)[1], dtype=flat.dtype).reshape(flat.shape)
        )
    parts = _solve_groups(flat, term, settings, name, history=history, workers=workers)
    return _as_given(_joined(parts, history=history), z)


def _check_maps(z: Array) -> None:
    check_array(z, "z")
    if z.ndim < 2 or z.shape[-1] * z.shape[-2] == 0:
        raise CvmError(f"z must have shape (..., H, W) with at least one pixel, got {tuple(z.shape)}")
    xp = array_namespace(z)
    if z.dtype not in (xp.float32, xp.float64):
        raise CvmError(f"z must be of type float32 or float64, got {z.dtype}")


def _check_fitting(fitting: Array, z: Array) -> np.ndarray:
    values = fitting.detach().cpu().numpy() if is_torch_array(fitting) else np.asarray(fitting)
    check_array(values, "fitting")
    if not np.isfinite(values).all():
        raise CvmError(f"fitting must be finite, got {(~np.isfinite(values)).sum()} NaN or infinite values")
    try:
        return np.ascontiguousarray(np.broadcast_to(values, tuple(z.shape)))
    except ValueError:
        raise CvmError(f"fitting must broadcast to z's shape {tuple(z.shape)}, got {values.shape}") from None


def _solve_groups(
    z: Array, fitting: Array | None, settings: Settings, name: BackendName, *, history: bool, workers: int
) -> list[Solution]:
    """Solve the maps (N, H, W) in groups, divided over the workers."""
    count = 1 if name == "torch" else cpu_count() if workers < 0 else max(1, workers)
    size = min(backends.group_size(z), max(1, -(-z.shape[0] // count)))
    groups = [slice(start, start + size) for start in range(0, z.shape[0], size)] or [slice(0, 0)]
    tasks = ((z[group], None if fitting is None else fitting[group]) for group in groups)
    if count == 1 or len(groups) == 1:
        return [_solve_group(*task, settings, name, history) for task in tasks]
    pool = Parallel(n_jobs=min(count, len(groups)), prefer="threads" if name == "numba" else "processes")
    solutions: list[Solution] = pool(delayed(_solve_group)(*task, settings, name, history) for task in tasks)
    return solutions


def _solve_group(z: Array, fitting: Array | None, settings: Settings, name: BackendName, history: bool) -> Solution:
    return solve_maps(z, fitting, settings, backends.load(name), history=history)


def _joined(parts: list[Solution], *, history: bool) -> Solution:
    """Concatenate the solutions of all groups; a shorter history is padded with its last energies."""
    if len(parts) == 1:
        return parts[0]
    facts = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*FACTS, "status")}
    u = array_namespace(parts[0].u).concat([part.u for part in parts])
    steps = max((len(part.history) for part in parts if part.history is not None), default=0)
    records = [
        np.concatenate([part.history, np.repeat(part.energy[None], steps - len(part.history), axis=0)])
        for part in parts
        if part.history is not None
    ]
    return Solution(u=u, **facts, history=np.concatenate(records, axis=1) if history else None)


def _as_given(solution: Solution, z: Array) -> Solution:
    """Convert the solution to the shape, kind and device of z."""
    shape = tuple(z.shape[:-2])
    facts = {name: getattr(solution, name).reshape(shape) for name in (*FACTS, "status")}
    history = None if solution.history is None else solution.history.reshape(len(solution.history), *shape)
    if not is_torch_array(z):
        u = solution.u if is_numpy_array(solution.u) else solution.u.cpu().numpy()
        return Solution(u=u.reshape(z.shape), **facts, history=history)
    import torch

    facts |= {name: torch.as_tensor(facts[name], device=z.device) for name in FACTS}
    if history is not None:
        history = torch.as_tensor(history, device=z.device)
    return Solution(u=torch.as_tensor(solution.u, device=z.device).reshape(z.shape), **facts, history=history)
