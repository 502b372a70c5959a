"""Compare the time of the variational solver with a sparse-matrix solver, scikit-image, and the memory-bandwidth bound.

    python benchmarks/solver.py              the CPU tables, on one thread, and the throughput of several cores
    python benchmarks/solver.py --device cuda    the renewal of a whole training set on a GPU

Every table is made in one run. A ratio divides the reference's time by ours, both the median of several alternate
repetitions; absolute times hold for the machine in the first line.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

from cvm_monai.variational import normalise, solve
from cvm_monai.variational.backends import load
from cvm_monai.variational.chan_vese import (
    PENALTY_CURVATURE,
    PENALTY_WIDTH,
    edge_detector,
    penalty_derivative,
    region_term,
    threshold_means,
)

SIZES = (64, 256, 512, 768, 1024)
STEP = {"tau": 1e-2, "beta": 1e-6}
TYPES = (np.float64, np.float32)
COPIED = 10
"""Arrays that a step must move if nothing stays in the cache: u, f, g read and u written, for both directions, and the
half-solved rows and columns written and read once."""


def tissue_like(size: int, dtype: type, *, count: int = 1) -> np.ndarray:
    """Noisy blobs (count, size, size) in [0, 1], as contrast maps are."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.random((count, size, size)), (0, size / 20, size / 20), mode="wrap")
    return normalise(normalise(smooth) + 0.1 * rng.normal(size=smooth.shape)).astype(dtype)


def step_input(size: int, dtype: type) -> tuple[np.ndarray, ...]:
    """u, f, g and alpha of one map, as in a solve with lam = 2 after its first steps."""
    z = tissue_like(size, dtype)
    f = region_term(z, threshold_means(z))
    f *= 2 / np.abs(f).max()
    return z, f, edge_detector(z), np.full((1, 1, 1), 2, dtype)


def sparse_step(u: np.ndarray, f: np.ndarray, g: np.ndarray, *, tau: float, beta: float, alpha: float) -> np.ndarray:
    """The same step as it is usually written: a sparse matrix from diagonals, to CSC, spsolve, for both directions."""
    weight = 1 + tau * alpha * PENALTY_CURVATURE * (np.abs(np.abs(u - 0.5) - 0.5) <= PENALTY_WIDTH)
    right = weight * u - tau * f - tau * alpha * penalty_derivative(u)
    solutions = []
    for turned in (False, True):
        part = [array.T if turned else array for array in (u, g, weight, right)]
        forward = np.zeros_like(part[0])
        forward[:, :-1] = np.diff(part[0], axis=1)
        across = np.gradient(part[0], axis=0)
        across[[0, -1]] *= 0.5
        coupling = 2 * tau * part[1] / np.sqrt(forward**2 + across**2 + beta)
        coupling[:, -1] = 0
        below = coupling.ravel()[:-1]
        main = part[2].ravel() + coupling.ravel()
        main[1:] += below
        matrix = sparse.diags([-below, main, -below], [-1, 0, 1], format="csc")
        solved = spsolve(matrix, part[3].ravel()).reshape(part[0].shape)
        solutions.append(solved.T if turned else solved)
    return (solutions[0] + solutions[1]) / 2


def medians(tasks: dict[str, Callable[[], object]], *, seconds: float = 1.0) -> dict[str, float]:
    """Median seconds of each task; the tasks take turns, each for about that long in all, three times at least."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    while any(len(times) < 3 or sum(times) < seconds for times in taken.values()):
        for name, task in tasks.items():
            if len(taken[name]) < 3 or sum(taken[name]) < seconds:
                start = time.perf_counter()
                task()
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def backends() -> list[str]:
    return ["numpy", *(["numba"] if find_spec("numba") else [])]


def aos_tasks(size: int, dtype: type) -> dict[str, Callable[[], object]]:
    """One AOS step by each backend and by the sparse way, and a copy of the bytes it must move."""
    u, f, g, alpha = step_input(size, dtype)
    out, tasks = np.empty_like(u), {}
    for name in backends():
        step = load(name).aos_step
        tasks[name] = lambda step=step: step(u, f, g, **STEP, alpha=alpha, out=out)
    source, target = np.ones((COPIED // 2, size, size), dtype), np.empty((COPIED // 2, size, size), dtype)
    tasks["sparse"] = lambda: sparse_step(u[0], f[0], g[0], **STEP, alpha=2)
    tasks["copy"] = lambda: np.copyto(target, source)
    for name in backends():
        error = np.abs(tasks[name]()[0] - tasks["sparse"]()).max()
        assert error < (1e-10 if dtype is np.float64 else 1e-4), (name, error)
    return tasks


def aos_table() -> None:
    """Steps of AOS against the sparse way and the copy."""
    names = backends()
    print("\nOne AOS step, one map, one thread: milliseconds, (ns per pixel), ratio to the sparse way, to the copy")
    print(f"{'px':>5} {'type':8} {'sparse':>9} {'copy':>7}" + "".join(f" {name:>35}" for name in names))
    for size in SIZES:
        for dtype in TYPES:
            found = medians(aos_tasks(size, dtype))
            row = f"{size:5} {np.dtype(dtype).name:8} {1e3 * found['sparse']:9.2f} {1e3 * found['copy']:7.3f}"
            for name in names:
                own = found[name]
                row += f" {1e3 * own:8.2f} ({1e9 * own / size**2:5.1f})"
                row += f" {found['sparse'] / own:6.1f}x {own / found['copy']:5.1f}c"
            print(row)


def whole_solves() -> None:
    """Whole solves against scikit-image's Chan-Vese solvers and ten sparse steps."""
    from skimage.segmentation import chan_vese, morphological_chan_vese

    print("\nOne map solved, one thread, float64: milliseconds")
    columns = ("10 sparse", "chan_vese", "morphological", *(f"{kind} {name}" for name in backends() for kind in WHOLE))
    print(f"{'px':>5}" + "".join(f" {column:>17}" for column in columns))
    for size in SIZES:
        z = tissue_like(size, np.float64)
        u, f, g, _ = (part[0] for part in step_input(size, np.float64))
        tasks: dict[str, Callable[[], object]] = {
            "10 sparse": lambda u=u, f=f, g=g: sparse_step(u, f, g, **STEP, alpha=2),
            "chan_vese": lambda z=z: chan_vese(z[0], mu=0.25, max_num_iter=50, tol=0),
            "morphological": lambda z=z: morphological_chan_vese(z[0], 50, init_level_set=z[0] > 0.5),
        }
        for name in backends():
            for kind, settings in WHOLE.items():
                tasks[f"{kind} {name}"] = lambda z=z, name=name, s=settings: solve(
                    z, lam=2, backend=name, means="fixed", **s
                )
        found = medians(tasks, seconds=0.3)
        found["10 sparse"] *= 10
        print(f"{size:5}" + "".join(f" {1e3 * found[column]:17.2f}" for column in columns))


AOS: dict[str, Any] = {"method": "aos", "lam": 2, "iterations": 50}
WHOLE = {
    "50 aos": {"method": "aos", "iterations": 50, "tolerance": 0},
    "gap 1e-3": {"method": "primal_dual", "iterations": 2000, "tolerance": 1e-3},
}


def cores_table(*, size: int = 256, count: int = 24) -> None:
    """Throughput of many maps on several cores."""
    cores = len(os.sched_getaffinity(0))
    z = tissue_like(size, np.float32, count=count)
    print(f"\n{count} maps of {size} px, 50 AOS steps, float32: maps per second on 1 and {cores} cores")
    for name in backends():
        tasks = {
            str(workers): lambda workers=workers, name=name: solve(z, **AOS, backend=name, tolerance=0, workers=workers)
            for workers in (1, cores)
        }
        found = medians(tasks, seconds=3)
        rates = [count / found[str(workers)] for workers in (1, cores)]
        print(f"{name:>8} {rates[0]:9.1f} {rates[1]:9.1f}   {rates[1] / rates[0]:.2f} times")


def where_time_goes(*, size: int = 256) -> None:
    """The parts of NumPy's AOS step."""
    from cvm_monai.variational import aos

    u, f, g, _ = (part[0] for part in step_input(size, np.float64))
    rows = next(iter(aos._blocks(size, size * u.itemsize)))
    around = aos._with_neighbours(u, rows)
    diagonal, right = aos._diagonal_and_right(around[1:-1], f[rows], tau=1e-2, alpha=2.0)
    along, down = aos._couplings(around, g[rows], **STEP)
    whole = [np.tile(part, (size // len(part) + 1, 1))[:size] for part in (down, diagonal, right)]
    parts = {
        "penalty and right-hand side": lambda: aos._diagonal_and_right(around[1:-1], f[rows], tau=1e-2, alpha=2.0),
        "couplings": lambda: aos._couplings(around, g[rows], **STEP),
        "rows by LAPACK's ptsv": lambda: aos._solve_rows(along.copy(), diagonal, right),
        "columns by Thomas": lambda: aos._solve_columns(*(part.copy() for part in whole)),
    }
    found = medians(parts, seconds=0.2)
    print(f"\nWhere NumPy's time goes at {size} px, float64: ns per pixel")
    for name, seconds in found.items():
        print(f"{name:>30} {1e9 * seconds / (size**2 if 'Thomas' in name else around[1:-1].size):6.1f}")


def gpu_table(device: str) -> None:
    """The renewal of a training set on a GPU, beside the copy bandwidth of the same card."""
    import torch

    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    print(f"\n{card}, torch {torch.__version__}, Triton {version('triton') if find_spec('triton') else 'none'}")
    bandwidth = copy_bandwidth(device)
    print(f"copy bandwidth {bandwidth / 1e9:.0f} GB/s (bytes read and written)")
    shapes = ((348, 256), (300, 768)) if device.startswith("cuda") else ((4, 64), (2, 96))
    for count, size in shapes:
        z = torch.from_numpy(tissue_like(size, np.float32, count=min(count, 8))).to(device)
        z = z.repeat(-(-count // len(z)), 1, 1)[:count].contiguous()
        for label, settings, arrays in (
            ("5 AOS steps", {"method": "aos", "iterations": 5}, 12),
            ("50 AOS steps", {"method": "aos", "iterations": 50}, 12),
            ("200 primal-dual steps", {"method": "primal_dual", "iterations": 200}, 10),
        ):
            run = lambda z=z, s=settings: solve(z, lam=2, tolerance=0, backend="torch", device=device, **s)  # noqa: E731
            seconds = gpu_median(run, device)
            moved = arrays * 4 * z.numel() * settings["iterations"]
            print(
                f"{count} maps of {size} px, {label}: {1e3 * seconds:8.1f} ms, {moved / seconds / 1e9:6.0f} GB/s, "
                f"{moved / seconds / bandwidth:.2f} of the copy"
            )
        error = (
            solve(z[:4], **AOS, device=device, backend="torch").u.cpu() - solve(z[:4].cpu(), **AOS, backend="numpy").u
        ).abs()
        print(f"  50 AOS steps against NumPy: largest difference {error.max():.1e}")


def copy_bandwidth(device: str) -> float:
    """Bytes per second, read and written, of a copy within the device's memory."""
    import torch

    source = torch.ones((1 << 28) if device.startswith("cuda") else (1 << 22), device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / gpu_median(lambda: target.copy_(source), device)


def gpu_median(task: Callable[[], object], device: str, *, runs: int = 7) -> float:
    """Median seconds of a task, waiting for the device before and after; two runs warm up."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    for _ in range(runs + 2):
        wait()
        start = time.perf_counter()
        task()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    if os.environ.get("OMP_NUM_THREADS") != "1":  # must stand before NumPy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cuda: only the table of the GPU; cpu-torch: the same, small")
    device = parser.parse_args().device
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", *backends()[1:]))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    if device != "cpu":
        gpu_table("cpu" if device == "cpu-torch" else device)
        return
    aos_table()
    whole_solves()
    where_time_goes()
    cores_table()


if __name__ == "__main__":
    main()
