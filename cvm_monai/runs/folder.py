"""The record `run.json` of an output folder: what was asked for, on which data and software, each attempt, the end."""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.files import read_record, sha256, shown, write_json
from cvm_monai.knobs import TRAINING

PACKAGES = ("cvm-monai", "monai", "torch", "numpy", "scipy", "pytorch-ignite", "mlflow")
RUN_FILE = "run.json"

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class RunFolder:
    """The record of a run in its output folder, on disk after each call and replaced atomically.

    A run has one or more attempts: an interrupted one that is taken up again keeps those before it. An attempt without
    an end was killed.

    Args:
        folder: of the output.
        file: name of the record.
    """

    def __init__(self, folder: str | PathLike[str], *, file: str = RUN_FILE) -> None:
        self.path = Path(folder) / file

    @property
    def known(self) -> dict[str, Any]:
        """The record on disk; empty if it is missing or cannot be read."""
        return read_record(self.path) or {}

    @property
    def finished(self) -> bool:
        """Whether the last attempt has finished; comparisons of earlier versions recorded a `state`."""
        known = self.known
        return "FINISHED" in (known.get("status"), str(known.get("state")).upper())

    def begin(self, facts: Mapping[str, Any], *, goes_on: bool = False, **attempt: Any) -> dict[str, Any]:
        """Record that an attempt begins, and return the record.

        Args:
            facts: what was asked for; they replace those of an earlier record.
            goes_on: keep the attempts of the earlier record.
            attempt: further facts of this attempt alone.
        """
        before = _attempts(self.known) if goes_on else []
        if before and before[-1].get("status") == "RUNNING":
            before[-1] = {**before[-1], "status": "KILLED"}
        started = {"status": "RUNNING", **begun(), "process": os.getpid(), **attempt}
        record = {**facts, **software(), "status": "RUNNING", "attempts": [*before, started]}
        write_json(self.path, record)
        return record

    def update(self, **changes: Any) -> None:
        """Change some entries of the record."""
        write_json(self.path, {**self.known, **changes})

    def end(self, status: Status, *, error: str | None = None, **found: Any) -> None:
        """Record the end of the current attempt, its error, and further entries of the record."""
        known, ended = self.known, {"status": status, "ended": now()}
        attempts = _attempts(known)
        if attempts:
            attempts[-1] = {**attempts[-1], **ended} | ({} if error is None else {"error": error})
        write_json(self.path, {**known, **found, **ended, "attempts": attempts})


class OutputRecord:
    """The record of a command's output: created when the work begins, written beside the finished output.

    A command that fails leaves the record of an existing output unchanged.

    Args:
        kind: the command's name, such as `prepare`.
        configuration: every setting that affects the output, by name.
        seed: seed of the random numbers; None: none are used.
    """

    def __init__(self, kind: str, *, configuration: Mapping[str, Any], seed: int | None = None) -> None:
        self.kind = kind
        self.facts = {"kind": kind, **begun(), "configuration": plain(dict(configuration)), "seed": seed, **software()}

    @classmethod
    def of_command(cls, kind: str, arguments: argparse.Namespace) -> "OutputRecord":
        """Begin the record of a command, with all of its options as its configuration."""
        options = {name: value for name, value in vars(arguments).items() if name != "run"}
        return cls(kind, configuration=options, seed=options.get("seed"))

    def write(self, folder: Path, *, data: Mapping[str, Path]) -> Path:
        """Write `folder/run.json`, or `folder/run_KIND.json` if `run.json` is the record of another command.

        Args:
            folder: folder of the output.
            data: input files whose SHA-256 is recorded, by the name of the entry.
        """
        there = folder / RUN_FILE
        taken = there.exists() and RunFolder(folder).known.get("kind") != self.kind
        return self._write(folder / f"run_{self.kind}.json" if taken else there, data)

    def write_beside(self, file: Path, *, data: Mapping[str, Path]) -> Path:
        """Write `FILE.run.json` for an output that is a single file; `data` as in `write`."""
        return self._write(file.with_name(f"{file.name}.{RUN_FILE}"), data)

    def _write(self, path: Path, data: Mapping[str, Path]) -> Path:
        hashes = {name: sha256(file) for name, file in data.items()}
        write_json(path, {**self.facts, "ended": now(), "sha256": hashes})
        return path


class TrainedKnobs(Mapping[str, Any]):
    """Mapping of a training's recorded knobs; an unrecorded one has the value that was fixed before it existed.

    A value is checked on access, so that an invalid one affects only its users.

    Args:
        output_dir: of the training; without a `run.json` there, no knob counts as recorded.
        defaults: for a network without its record, as in an exported bundle; they take precedence over `Knob.before`.

    Raises:
        CvmError: the file is not the record of a training; or, on access, a value that is invalid for the knob.
    """

    def __init__(self, output_dir: str | PathLike[str], defaults: Mapping[str, Any] | None = None) -> None:
        self._file = Path(output_dir) / RUN_FILE
        self._recorded: Mapping[str, Any] = _recorded_knobs(self._file)
        self._defaults = {name: knob.earlier for name, knob in TRAINING.items() if knob.recorded} | dict(defaults or {})

    def __getitem__(self, name: str) -> Any:
        if name in self._recorded:
            return check_recorded(self._file, name, self._recorded[name])
        return self._defaults[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._defaults, **self._recorded})

    def __len__(self) -> int:
        return len({**self._defaults, **self._recorded})


def check_recorded(file: Path, name: str, value: Any) -> Any:
    """Check a knob's value in a training's record and return it; an unknown name is not checked.

    Raises:
        CvmError: the value is invalid; the message names the file and the valid values.
    """
    knob = TRAINING.get(name)
    if knob is None or value == knob.before or knob.fits(value):
        return value
    raise CvmError(f"{file}: {name} must be {knob.words}, found {shown(value)}: train again, or restore the file")


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


def _attempts(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = known.get("attempts")
    return [dict(entry) for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _recorded_knobs(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["knobs"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CvmError(f"{file} is not a record of a training ({error}): train again, or remove it") from error


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
