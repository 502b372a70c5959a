"""``cvm-monai doctor``: is everything here that is needed?"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

Status = Literal["PASS", "WARN", "FAIL"]

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
"""Distribution name -> how it calls itself."""

DISTRIBUTION = "cvm-monai"
FREE_GIB = 5
PYTHON = ((3, 11), (3, 14))
"""First version that runs, first one that is not tried."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` says what to do where the status is not PASS."""

    status: Status
    what: str
    fix: str = ""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "doctor",
        help="say what is installed, what is missing, and how to mend it",
        description="Check the installation; the exit code is 1 when something fails.",
    )
    parser.add_argument("--data", metavar="DIR", default="data/phantom", help="data set to look for (%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each finding."""
    failed = False
    for finding in examine(Path(arguments.data)):
        print(f"{finding.status}  {finding.what}")
        if finding.fix:
            print(f"      fix: {finding.fix}")
        failed |= finding.status == "FAIL"
    return int(failed)


def examine(data: Path) -> Iterator[Finding]:
    """All findings, the quick ones first."""
    yield check_python(sys.version_info[:2])
    yield from check_packages()
    yield check_solver(find_spec("numba") is not None)
    yield check_torch()
    yield check_threads(os.environ.get("OMP_NUM_THREADS"), cores=os.cpu_count() or 1)
    yield check_disk(Path.cwd())
    yield check_data(data)


def check_python(version: tuple[int, int]) -> Finding:
    """The interpreter's version."""
    first, end = PYTHON
    name = f"Python {version[0]}.{version[1]}"
    if version < first:
        return Finding("FAIL", name, f"install Python {first[0]}.{first[1]} or newer and make a new environment")
    if version >= end:
        return Finding("WARN", f"{name} is newer than what this version was tried with", "use Python 3.11 to 3.13")
    return Finding("PASS", name)


def check_packages() -> Iterator[Finding]:
    """Versions as installed, against what this package's own metadata asks for; nothing is imported."""
    try:
        from packaging.requirements import Requirement

        wanted = {item.name: item.specifier for item in map(Requirement, metadata.requires(DISTRIBUTION) or ())}
    except (ImportError, metadata.PackageNotFoundError):  # run from a checkout that is not installed
        wanted = {}
    for distribution, name in PACKAGES.items():
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            yield Finding("FAIL", f"{name} is missing", f"pip install '{distribution}{wanted.get(distribution, '')}'")
            continue
        allowed = wanted.get(distribution)
        if allowed and not allowed.contains(version, prereleases=True):
            yield Finding("WARN", f"{name} {version} is not {allowed}", f"pip install '{distribution}{allowed}'")
        else:
            yield Finding("PASS", f"{name} {version}")


def check_solver(compiled: bool) -> Finding:
    """Which loops the variational solver runs on the processor."""
    if compiled:
        return Finding("PASS", f"compiled solver: numba {metadata.version('numba')}")
    return Finding("WARN", "the solver runs in NumPy, several times slower", f"pip install '{DISTRIBUTION}[fast]'")


def check_torch() -> Finding:
    """Whether torch starts and sees a GPU; asked in a process of its own, since a broken one may end the process."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    try:
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Finding("FAIL", "torch did not start within two minutes", "close other programs, or reinstall torch")
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("FAIL", f"torch does not start: {reason}", "reinstall torch (https://pytorch.org/get-started)")
    gpu = answer.stdout.strip()
    if gpu:
        return Finding("PASS", f"CUDA on {gpu}")
    fix = (
        "none needed for small images; otherwise install torch for your CUDA version (https://pytorch.org/get-started)"
    )
    return Finding("WARN", "no CUDA GPU: training runs on the processor, slowly", fix)


def check_threads(setting: str | None, *, cores: int) -> Finding:
    """The number of threads that numerical libraries take."""
    if setting:
        return Finding("PASS", f"OMP_NUM_THREADS={setting} on {cores} cores")
    fix = "export OMP_NUM_THREADS=1 if the machine is shared or busy"
    return Finding("WARN", f"OMP_NUM_THREADS is not set: each process takes up to {cores} threads", fix)


def check_disk(folder: Path) -> Finding:
    """Room for checkpoints, pseudo-labels and the tracking database."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < FREE_GIB:
        return Finding("WARN", f"{free:.1f} GiB free in {folder}", f"make room: a run may need {FREE_GIB} GiB")
    return Finding("PASS", f"{free:.0f} GiB free in {folder}")


def check_data(folder: Path) -> Finding:
    """The example data set, or another one."""
    try:
        from cvm_monai.data.datalist import FILE_NAME, read_datalist

        if not (folder / FILE_NAME).exists():
            fix = "cvm-monai phantom data/phantom makes an example, cvm-monai prepare DIR --out OUT takes your own"
            return Finding("WARN", f"no data set in {folder}", fix)
        datalist = read_datalist(folder)
    except ImportError as error:
        return Finding("WARN", f"the data set was not looked at: {error}", "install what is missing")
    except ValueError as error:
        return Finding("WARN", str(error), "prepare the data set again")
    return Finding("PASS", f"{len(datalist.cases)} cases in {datalist.path}")
