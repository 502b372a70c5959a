"""Measure peak memory and time of a training step on large images, for each way to extract the features.

    python benchmarks/large_images.py                                 CPU, 1024, 2048 and 4096 px, three ways
    python benchmarks/large_images.py --device cuda --amp             a GPU, mixed precision
    python benchmarks/large_images.py --halos 0,64,128,192,288        difference from the whole image by halo, and cost

The network is `two_component` with random weights, the step is forward, cross-entropy, backward and Adam, batch 1. Each
measurement is a separate process, so that no peak hides another: on a CPU the peak memory of the process, packages
included, and its excess over the memory just before the step; on a GPU the peak allocated by torch.
"whole" (one graph of the whole image) is the reference of each size. A CPU process that grows beyond --limit-gib is
stopped by the limit, and the table says so. The time is that of the last of --steps steps; on a CPU it is CPU time,
which other load does not change.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

GIB = 2**30
MODES = ("whole", "checkpointed", "multi_stage")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", type=numbers, default=[1024, 2048, 4096], help="sides in pixels, with commas")
    parser.add_argument("--modes", type=lambda text: text.split(","), default=list(MODES), help="with commas")
    parser.add_argument("--patch-size", type=int, default=1024)
    parser.add_argument("--halo", type=int, default=192)
    parser.add_argument("--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU")
    parser.add_argument(
        "--steps", type=int, default=0, help="0: 1 on a CPU, 3 on a GPU, whose first ones choose kernels"
    )
    parser.add_argument("--limit-gib", type=float, default=16, help="of address space above the start, on a CPU")
    parser.add_argument("--halos", type=numbers, default=[], help="compare these halos with the whole image instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.child:
        print(json.dumps(step(**json.loads(arguments.child))))
    elif arguments.halos:
        print_halos(arguments)
    else:
        print_steps(arguments)


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def print_steps(arguments: argparse.Namespace) -> None:
    """One row for each size and mode."""
    print("| image | extraction | peak memory | of whole | the step alone | of whole | seconds a step | of whole |")
    print("|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        reference: dict[str, float] = {}
        for mode in arguments.modes:
            found = measured(arguments, size, mode)
            if mode == MODES[0]:
                reference = found
            print(f"| {size} | {mode} | {cells(found, reference)} |", flush=True)


def cells(found: dict[str, Any], reference: dict[str, Any]) -> str:
    """Each value, and its ratio to the reference's where there is one."""
    if "failed" in found:
        return " | ".join([found["failed"], *[""] * 5])
    texts = []
    for key, text in (("peak", "{:.2f} GiB"), ("step", "{:.2f} GiB"), ("seconds", "{:.2f}")):
        texts.append(text.format(found[key]))
        texts.append(f"{found[key] / reference[key]:.2f}" if reference.get(key) else "")
    return " | ".join(texts)


def measured(arguments: argparse.Namespace, size: int, mode: str) -> dict[str, Any]:
    """One step in a process of its own."""
    asked = {
        "device": arguments.device,
        "size": size,
        "mode": mode,
        "patch_size": arguments.patch_size,
        "halo": arguments.halo,
        "amp": arguments.amp,
        "steps": arguments.steps or (1 if arguments.device == "cpu" else 3),
        "limit_gib": arguments.limit_gib,
    }
    command = [sys.executable, __file__, "--child", json.dumps(asked)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode == 0:
        found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return found
    out_of_memory = child.returncode < 0 or any(
        text in child.stderr for text in ("out of memory", "can't allocate memory", "MemoryError", "bad_alloc")
    )
    if not out_of_memory:
        raise SystemExit(child.stderr)
    limit = f" (limit {arguments.limit_gib:g} GiB)" if arguments.device == "cpu" else ""
    return {"failed": f"out of memory{limit}"}


def step(
    *, device: str, size: int, mode: str, patch_size: int, halo: int, amp: bool, steps: int, limit_gib: float
) -> dict[str, float]:
    """Gibibytes and seconds of a training step."""
    import torch
    from torch.nn import functional

    network = built(extraction=mode, patch_size=patch_size, halo=halo).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    image = torch.randn(1, 3, size, size, device=device)
    label = torch.randint(0, 2, (1, *network.output_shape(size, size)), device=device)
    before = limited(limit_gib) if device == "cpu" else torch.cuda.memory_allocated()
    scaler = torch.amp.GradScaler(device, enabled=amp and device == "cuda")
    for _ in range(steps):
        finish(device)
        began = clock(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, enabled=amp):
            loss = functional.cross_entropy(network(image).float(), label)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        finish(device)
        seconds = clock(device) - began
    peak = peak_of_process() if device == "cpu" else torch.cuda.max_memory_allocated()
    return {"peak": peak / GIB, "step": (peak - before) / GIB, "seconds": seconds}


def built(**settings: Any):
    """The paper's network with random weights."""
    import torch

    from cvm_monai.networks import build_network
    from cvm_monai.networks.large_images import LargeImages

    torch.manual_seed(0)
    return build_network("two_component", large_images=LargeImages(**settings))


def limited(gib: float) -> int:
    """Let this process take `gib` more address space than now; the memory that it holds now, in bytes."""
    with open("/proc/self/statm") as file:
        pages, held = (int(number) * resource.getpagesize() for number in file.read().split()[:2])
    resource.setrlimit(resource.RLIMIT_AS, (pages + int(gib * GIB),) * 2)
    return held


def peak_of_process() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clock(device: str) -> float:
    """Seconds: of the processor, or by the clock for a GPU."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def finish(device: str) -> None:
    """Wait for a GPU."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def print_halos(arguments: argparse.Namespace) -> None:
    """How far Feature Map 1 and the gradients with each halo are from those of the whole image, and the time."""
    import torch

    torch.set_num_threads(1)
    size, device = min(arguments.sizes), arguments.device
    image = tissue(size).to(device)
    statistics = calibrated(image)
    print("| image | patch | halo | features | gradients | seconds | of whole | pixels read |")
    print("|---|---|---|---|---|---|---|---|")
    reference = extracted(image, statistics, extraction="checkpointed")
    print(f"| {size} | whole | | | | {reference[2]:.1f} | 1 | 1 |", flush=True)
    for halo in arguments.halos:
        settings = {"extraction": "multi_stage", "patch_size": arguments.patch_size, "halo": halo}
        found = extracted(image, statistics, **settings)
        errors = [distance(one, other) for one, other in zip(found[:2], reference[:2], strict=True)]
        print(
            f"| {size} | {arguments.patch_size} | {halo} | {errors[0]:.1e} | {errors[1]:.1e} | {found[2]:.1f} "
            f"| {found[2] / reference[2]:.2f} | {pixels_read(size, arguments.patch_size, halo):.2f} |",
            flush=True,
        )


def extracted(image, statistics: dict[str, Any], **settings: Any):
    """Feature Map 1, the encoder's gradients of a fixed linear function of it, and the seconds of both."""
    import torch

    network = built(**settings).to(image.device)
    network.load_state_dict(statistics)
    network.eval()
    finish(image.device.type)
    began = clock(image.device.type)
    features = network.in_conv(network._layer3(image))
    torch.manual_seed(1)
    features.backward(torch.randn(features.shape).to(features))
    finish(image.device.type)
    seconds = clock(image.device.type) - began
    gradients = torch.cat([parameter.grad.flatten() for parameter in network.encoder.parameters()])
    return features.detach(), gradients, seconds


def calibrated(image) -> dict[str, Any]:
    """Random weights whose running statistics are those of the image: a frozen normalisation that normalises."""
    import torch

    network = built().to(image.device).train()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        network(image[:, :, :1024, :1024])
    return network.state_dict()


def tissue(size: int):
    """(1, 3, size, size): smooth blobs with noise, normalised; shapes of all scales as tissue has."""
    import numpy as np
    import torch
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    layers = [gaussian_filter(rng.standard_normal((3, size, size)), (0, s, s), mode="wrap") for s in (1, 4, 16, 64)]
    image = sum(layer / layer.std() for layer in layers) / 2
    return torch.from_numpy(image.astype(np.float32))[None]


def distance(found, reference) -> float:
    """Length of the difference over that of the reference."""
    return float((found - reference).norm() / reference.norm())


def pixels_read(size: int, patch_size: int, halo: int) -> float:
    """Pixels that all patches read, over those of the image."""
    from cvm_monai.networks.multi_stage import plan_patches

    patches = plan_patches(size, size, stride=16, patch_size=patch_size, halo=halo)
    sides = [[part.stop - part.start for part in patch.read] for patch in patches]
    return sum(height * width for height, width in sides) / size**2


if __name__ == "__main__":
    main()
