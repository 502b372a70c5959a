"""Compare the solver's Triton kernels with the plain torch steps, eager and compiled by torch.compile.

    python benchmarks/kernels.py --device cuda --maps 348 --size 256
    python benchmarks/kernels.py --maps 2 --size 24           on the processor: plain and compiled alone

The plain sweep of AOS is a loop over the lines of a map, which torch.compile unrolls: it is compared on `--lines` lines
of the same maps, and compiling it takes as long as it says. Milliseconds are medians; the share is that of a copy's
bandwidth within the device, for the bytes that the step moves at least. A way that fails is left out, with its reason.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from solver import copy_bandwidth, gpu_median, tissue_like

LEAST = {"AOS sweep": 7, "primal-dual step": 10, "gap": 5}
"""Arrays that each step must read and write at least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--maps", type=int, default=348)
    parser.add_argument("--size", type=int, default=256, help="side of the maps in pixels")
    parser.add_argument("--lines", type=int, default=32, help="of the compiled AOS sweep (default 32)")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.filterwarnings("ignore")  # of the compiler, on what it traces through
    bandwidth = copy_bandwidth(arguments.device)
    print(f"{arguments.maps} maps of {arguments.size} px, float32; a copy moves {bandwidth / 1e9:.0f} GB/s\n")
    print("| step | lines | Triton ms | plain ms | compiled ms | compiled / Triton | Triton's share of the copy |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for lines in (arguments.size, arguments.lines):
        for name, kinds in steps(arguments.device, arguments.maps, lines, arguments.size).items():
            if name == "AOS sweep" and lines == arguments.size and lines > arguments.lines:
                kinds["compiled"] = None
            if name == "AOS sweep" or lines == arguments.size:
                bytes_moved = 4 * LEAST[name] * arguments.maps * lines * arguments.size
                print(row(name, lines, kinds, arguments.device, bytes_moved / bandwidth), flush=True)


def row(name: str, lines: int, kinds: dict[str, Any], device: str, floor: float) -> str:
    """One step by each way that there is."""
    found, notes = {}, []
    for kind, task in kinds.items():
        if task is None:
            continue
        try:
            start = time.perf_counter()
            task()
            first = time.perf_counter() - start
            found[kind] = gpu_median(task, device)
            notes += [f"{first:.0f} s to compile"] if kind == "compiled" else []
        except Exception as error:  # a compiler that is missing or gives up: a row without it
            notes.append(f"{kind}: {type(error).__name__} {str(error).strip().splitlines()[0][:80]}")
    cells = [f"{1e3 * found[kind]:.3f}" if kind in found else "" for kind in ("triton", "plain", "compiled")]
    both = "triton" in found and "compiled" in found
    ratio = f"{found['compiled'] / found['triton']:.2f}" if both else ""
    share = f"{floor / found['triton']:.2f}" if "triton" in found else ""
    label = f"{name} ({'; '.join(notes)})" if notes else name
    return f"| {label} | {lines} | {' | '.join(cells)} | {ratio} | {share} |"


def steps(device: str, maps: int, lines: int, width: int) -> dict[str, dict[str, Callable[[], Any] | None]]:
    """Each step as Triton's kernel (on CUDA), plain and compiled, on the same maps."""
    import torch

    from cvm_monai.variational import primal_dual, torch_steps

    plain = {
        "AOS sweep": torch_steps.sweep_down,
        "primal-dual step": primal_dual.primal_dual_step,
        "gap": primal_dual.relative_gap,
    }
    kinds: dict[str, dict[str, Any]] = {name: {"triton": None, "plain": step} for name, step in plain.items()}
    if device.startswith("cuda"):
        from cvm_monai.variational import fused

        for name, step in zip(plain, (fused.sweep_down, fused.primal_dual_step, fused.relative_gap), strict=True):
            kinds[name]["triton"] = step
    for own in kinds.values():
        own["compiled"] = torch.compile(own["plain"], dynamic=False)
    return {name: bound(name, own, device, maps, lines, width) for name, own in kinds.items()}


def bound(name: str, kinds: dict[str, Any], device: str, maps: int, lines: int, width: int) -> dict[str, Any]:
    """The ways of a step with maps to work on, each with its own."""
    return {
        kind: None if step is None else call(name, step, device, maps, lines, width) for kind, step in kinds.items()
    }


def call(name: str, step: Any, device: str, maps: int, lines: int, width: int) -> Callable[[], Any]:
    """A step with z, f, g and, for AOS, alpha of contrast-like maps."""
    import torch

    from cvm_monai.variational.chan_vese import edge_detector, region_term, threshold_means
    from cvm_monai.variational.primal_dual import start_dual

    z = tissue_like(width, np.float32, count=min(maps, 8))[:, :lines]
    z = np.tile(z, (-(-maps // len(z)), 1, 1))[:maps]
    f = region_term(z, threshold_means(z))
    f *= 2 / np.abs(f).max()
    u, f, g = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (z, f, edge_detector(z)))
    if name == "AOS sweep":
        alpha = torch.full((len(u), 1, 1), 2.0, device=device)
        return lambda: step(u, f, g, tau=1e-2, beta=1e-6, alpha=alpha)
    dual = start_dual(u)
    return lambda: step(u, dual, f, g)


if __name__ == "__main__":
    main()
