"""Make sure that this environment has a torch within the project's range.

A torch that is already there and within range is kept. Otherwise the tested version is installed from pip's own
indexes, or from the one that TORCH_INDEX_URL names (https://download.pytorch.org/whl/cpu, say, for a small CPU build).
"""

import os
import subprocess
import sys
from importlib import metadata

LOWEST, BELOW, TESTED = (2, 8), (3, 0), "2.13.0"


def in_range(version: str) -> bool:
    """Whether `2.13.0+cpu` or the like lies in [LOWEST, BELOW)."""
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    return LOWEST <= numbers < BELOW


def main() -> int:
    """Install where needed; pip's exit code."""
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = None
    if found and in_range(found):
        print(f"torch {found} is kept")
        return 0
    index = os.environ.get("TORCH_INDEX_URL")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    command += ["--index-url", index] if index else []
    return subprocess.call([*command, f"torch=={TESTED}"])


if __name__ == "__main__":
    sys.exit(main())
