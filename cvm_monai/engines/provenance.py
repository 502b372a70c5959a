"""The facts that make a run repeatable: command, versions, commit, hashes."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("cvm-monai", "monai", "torch", "numpy", "scipy", "pytorch-ignite", "mlflow")


def run_facts(*, knobs: dict[str, Any], data: str | Path) -> dict[str, Any]:
    """What `run.json` says of a run: when, how, with which software, on which data (SHA-256 of its data list)."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "knobs": {name: plain(value) for name, value in knobs.items()},
        **software(),
        "data_sha256": hashlib.sha256(Path(data).read_bytes()).hexdigest(),
    }


def software() -> dict[str, Any]:
    """Versions of Python and of the packages that matter, and the commit of this one."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def plain(value: Any) -> Any:
    """The value as JSON can hold it: lists and dictionaries stay, anything else than a plain value becomes text."""
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def write_json(path: Path, content: Any) -> None:
    """Write aside and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(aside, path)


def update_json(path: Path, **changes: Any) -> None:
    """Change some keys of a JSON object on disk."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this package runs from; None for an installed package, within any repository."""
    file = Path(__file__)
    try:
        for question in (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"]):
            command = ["git", "-C", str(file.parent), *question]
            result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
