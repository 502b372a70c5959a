"""Record how an output was made: command, configuration, versions, commit, hashes, host, times."""

import json
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cvm_monai.files import sha256, write_json

PACKAGES = ("cvm-monai", "monai", "torch", "numpy", "scipy", "pytorch-ignite", "mlflow")
RUN_FILE = "run.json"


class OutputRecord:
    """The `run.json` of a command's output: created when the work begins, written beside the finished output.

    A command that fails leaves the record of an existing output unchanged.

    Args:
        kind: the command's name, such as `prepare`.
        configuration: every setting that affects the output, by name.
        seed: seed of the random numbers; None: none are used.
    """

    def __init__(self, kind: str, *, configuration: Mapping[str, Any], seed: int | None = None) -> None:
        self.kind = kind
        self.facts = {"kind": kind, **begun(), "configuration": plain(dict(configuration)), "seed": seed, **software()}

    def write(self, folder: Path, *, data: Mapping[str, Path]) -> Path:
        """Write `folder/run.json`, or `folder/run_KIND.json` if `run.json` is the record of another command.

        Args:
            folder: folder of the output.
            data: input files whose SHA-256 is recorded, by the name of the entry.
        """
        taken = _kind_of(folder / RUN_FILE) not in (None, self.kind)
        return self._write(folder / (f"run_{self.kind}.json" if taken else RUN_FILE), data)

    def write_beside(self, file: Path, *, data: Mapping[str, Path]) -> Path:
        """Write `FILE.run.json` for an output that is a single file; `data` as in `write`."""
        return self._write(file.with_name(f"{file.name}.{RUN_FILE}"), data)

    def _write(self, path: Path, data: Mapping[str, Path]) -> Path:
        hashes = {name: sha256(file) for name, file in data.items()}
        write_json(path, {**self.facts, "ended": now(), "sha256": hashes})
        return path


def begun() -> dict[str, Any]:
    """Record the start: time, host and command."""
    return {
        "started": now(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "host": socket.gethostname(),
    }


def now() -> str:
    """Return the current time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def run_facts(*, knobs: dict[str, Any], data: str | Path) -> dict[str, Any]:
    """Collect the content of a training's `run.json`: time, host, command, knobs, software, data list."""
    return {
        "kind": "training",
        **begun(),
        "knobs": {name: plain(value) for name, value in knobs.items()},
        **software(),
        "data_sha256": sha256(Path(data)),
    }


def software() -> dict[str, Any]:
    """Return the versions of Python and of the relevant packages, and the commit of this package."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def plain(value: Any) -> Any:
    """Convert a value for JSON: lists, dictionaries and plain values are kept, anything else becomes text."""
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _kind_of(file: Path) -> str | None:
    """Read the kind of a record; None where there is no file, "unknown" where the file states no kind."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return str(found["kind"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None for an installed package."""
    file = Path(__file__)
    try:
        for question in (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"]):
            command = ["git", "-C", str(file.parent), *question]
            result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
