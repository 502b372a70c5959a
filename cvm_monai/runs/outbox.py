"""Entries of a run's log as JSON lines on disk, until MLflow has them: `RUN/mlflow_outbox.jsonl`.

A training writes each entry here first; it is removed when MLflow has taken it. So nothing is lost while the server
does not answer, and `cvm-monai sync-tracking` sends what is left.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shown, write_bytes

FILE = "mlflow_outbox.jsonl"

LARGEST = 2**63
"""Whole numbers from this magnitude on do not fit into MLflow's databases."""

Entry = Mapping[str, Any]
"""{kind, run_id, and the fields of that kind}; see `TrackedRun`."""


def _is_number(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) < LARGEST)


NAMED = {"name": lambda value: isinstance(value, str), "value": lambda value: isinstance(value, str)}
TIME = {"time": lambda value: type(value) is int and 0 <= value < LARGEST}
FIELDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "param": NAMED,
    "tag": NAMED,
    "metric": {
        **NAMED,
        "value": _is_number,
        "step": lambda value: type(value) is int and 0 <= value < LARGEST,
        **TIME,
    },
    "artifact": {
        "path": lambda value: isinstance(value, str) and "\0" not in value,
        "folder": lambda value: value is None or isinstance(value, str),
        "temporary": lambda value: isinstance(value, bool),
    },
    "status": {"value": lambda value: value in ("FINISHED", "FAILED", "KILLED"), **TIME},
    "dataset": {name: lambda value: isinstance(value, str) for name in ("name", "digest", "uri")},
}
"""Fields of each kind of entry beside `run_id`, with a check of each value."""


def _mistake(entry: Any) -> str | None:
    """Name the first missing or invalid field of an entry; None if it is valid."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or entry["kind"] not in FIELDS:
        return f"its kind must be one of {', '.join(FIELDS)}"
    fields = {"run_id": lambda value: isinstance(value, str), **FIELDS[entry["kind"]]}
    for name, right in fields.items():
        if name not in entry:
            return f"it has no {name}"
        if not right(entry[name]):
            return f"its {name} cannot be {shown(entry[name])}"
    return None


class Outbox:
    """A queue of entries in a file, in order of arrival; each is on disk before `add` returns.

    Args:
        path: of the file; it exists only while entries wait.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def files(self) -> Path:
        """The folder of files that belong to waiting entries; each is removed when it is sent."""
        return self.path.with_suffix("")

    def __len__(self) -> int:
        return len(self.entries())

    def entries(self) -> list[dict[str, Any]]:
        """Read all waiting entries; an incomplete last line, left by a kill, is ignored.

        Raises:
            CvmError: another line is not JSON or not a valid entry; the message gives its number.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines):
                    break
                raise CvmError(f"{self.path}: line {number} is not JSON ({error}): correct or remove it") from error
            if (wrong := _mistake(entry)) is not None:
                raise CvmError(f"{self.path}: line {number} is not an entry ({wrong}): correct or remove it")
            found.append(entry)
        return found

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill left an incomplete line, which would corrupt this one
                    keep = self.path.read_bytes()
                    file.truncate(keep.rfind(b"\n") + 1)
            file.write(b"".join(json.dumps(dict(entry)).encode() + b"\n" for entry in entries))

    def send(self, deliver: Callable[[Entry], bool]) -> int:
        """Pass the entries to `deliver` one by one until it returns False; returns how many are left.

        Delivered entries are removed from the file at the end, or when an error stops the sending; after a kill before
        that they are sent again.
        """
        entries = self.entries()
        sent = 0
        try:
            for entry in entries:
                if not deliver(entry):
                    break
                sent += 1
        finally:
            self._keep(entries[sent:] if sent else entries)
        return len(entries) - sent

    def name_of(self, file: Path) -> str:
        """Express a file's path relative to the outbox's folder, which may move before the entry is sent."""
        folder = self.path.parent.resolve()
        return str(file.resolve().relative_to(folder) if file.resolve().is_relative_to(folder) else file.resolve())

    def remove(self, file: Path) -> None:
        """Remove a file that waited, and its folder if it is empty then; never a path outside `files`."""
        if self.files.resolve() not in file.resolve().parents:
            return
        file.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in (file.resolve().parent, self.files):
                folder.rmdir()

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            write_bytes(self.path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        else:
            self.path.unlink(missing_ok=True)


def refused(error: Exception) -> bool:
    """Decide whether an error is MLflow's rejection of what was sent, rather than a failure to answer."""
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else 500
    return 400 <= status < 500 and status not in (408, 429)


def bring(client: Any, entry: Entry) -> None:
    """Send one entry to MLflow.

    Fields beside `kind` and `run_id`: `name`, `value` of a param or tag; `name`, `value`, `step`, `time` (ms) of a
    metric; `path`, `folder`, `temporary` of a file; `value`, `time` of the run's status; `name`, `digest`, `uri` of a
    data set.
    """
    run_id, kind = entry["run_id"], entry["kind"]
    if kind == "metric":
        client.log_metric(run_id, entry["name"], entry["value"], timestamp=entry["time"], step=entry["step"])
    elif kind == "param":
        client.log_param(run_id, entry["name"], entry["value"])
    elif kind == "tag":
        client.set_tag(run_id, entry["name"], entry["value"])
    elif kind == "artifact":
        path = Path(entry["path"])
        if path.is_file():
            client.log_artifact(run_id, str(path), artifact_path=entry["folder"])
    elif kind == "status":
        client.set_terminated(run_id, status=entry["value"], end_time=entry["time"])
    elif kind == "dataset":
        client.log_inputs(run_id, datasets=[_dataset(entry)])
    else:
        raise CvmError(f"entries of the kind {kind!r} cannot be sent to MLflow")


def _dataset(entry: Entry) -> Any:
    """Build MLflow's entity of the data set that a run was trained on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": entry["uri"]})
    found = Dataset(name=entry["name"], digest=entry["digest"], source_type="local", source=source)
    return DatasetInput(found, tags=[InputTag("mlflow.data.context", "training")])
