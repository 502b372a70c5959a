"""Send log entries to MLflow, or queue them as JSON lines while its server does not answer, and send them later."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shown, write_bytes

FILE = "mlflow_outbox.jsonl"

LARGEST = 2**63
"""Numbers from this magnitude on do not fit into MLflow's databases."""

Entry = Mapping[str, Any]
"""{kind, run_id, and the fields of that kind}; see `TrackedRun`."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST  # NaN compares false


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
                raise CvmError(f"{self.path}: line {number} is no JSON ({error}): correct or remove it") from error
            if (wrong := _mistake(entry)) is not None:
                raise CvmError(f"{self.path}: line {number} is no entry ({wrong}): correct or remove it")
            found.append(entry)
        return found

    def add(self, entry: Entry) -> None:
        """Append one entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill left an incomplete line, which would corrupt this one
                    keep = self.path.read_bytes()
                    file.truncate(keep.rfind(b"\n") + 1)
            file.write(json.dumps(dict(entry)).encode() + b"\n")

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

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            write_bytes(self.path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        else:
            self.path.unlink(missing_ok=True)


logger = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""Seconds without a new attempt after a server did not answer, so that a training is hardly delayed."""


class Delivery:
    """Sends entries to MLflow in their order.

    With an outbox no failure of MLflow stops the caller: what cannot be sent waits there, and what MLflow rejects is
    dropped with a warning. Without an outbox each failure is raised to the caller.

    Args:
        client: an `MlflowClient`.
        outbox: where entries wait.
    """

    def __init__(self, client: Any, *, outbox: Outbox | None = None) -> None:
        self.client, self.outbox = client, outbox
        self.known: set[tuple[str, int]] = set()
        """(metric, step) pairs that the run already has; they are not sent again."""
        self._away_until = 0.0
        self._away = outbox is not None and len(outbox) > 0

    def send(self, entry: Entry) -> None:
        """Send an entry, or queue it behind those that wait."""
        if self.outbox is None:
            bring(self.client, entry)
        elif (self._away and self.flush()) or not self._bring(entry):
            self.outbox.add(entry)

    def call(self, action: Callable[[], Any]) -> bool:
        """Call `action` now, if MLflow answers; returns whether it was done, or rejected for good."""
        if self.outbox is None:
            action()
            return True
        if self._away and self.flush():
            return False
        return self._reached(action)

    def count(self, action: Callable[[], int]) -> int:
        """Return the result of `action`; 0 if MLflow does not answer."""
        found: list[int] = []
        self.call(lambda: found.append(action()))
        return sum(found)

    def flush(self, *, now: bool = False) -> int:
        """Send the waiting entries, unless the server failed to answer a moment ago; returns how many are left.

        Args:
            now: try even if it just failed to answer.
        """
        if self.outbox is None:
            return 0
        if not now and time.monotonic() < self._away_until:
            return 1
        left = self.outbox.send(self._bring)
        self._away = left > 0
        return left

    def _bring(self, entry: Entry) -> bool:
        if entry["kind"] == "metric" and (entry["name"], entry["step"]) in self.known:
            return True
        if entry["kind"] == "artifact" and self.outbox is not None:
            entry = {**entry, "path": str(self.outbox.path.parent / entry["path"])}
        if not self._reached(lambda: bring(self.client, entry)):
            return False
        if entry["kind"] == "artifact" and entry["temporary"]:
            self._remove(Path(entry["path"]))
        return True

    def _remove(self, file: Path) -> None:
        """Remove a file in the outbox's own folder of waiting files; never a path outside it."""
        if self.outbox is not None and self.outbox.files.resolve() in file.resolve().parents:
            file.unlink(missing_ok=True)

    def _reached(self, action: Callable[[], Any]) -> bool:
        """Run `action`; returns whether MLflow answered. What it rejects is dropped."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            action()
        except (MlflowException, RequestException) as error:
            reason = " ".join(str(error).split())[:200]
            if refused(error):
                logger.warning("MLflow refuses an entry, which is left out: %s", reason)
                return True
            if not self._away:
                logger.warning("MLflow does not answer (%s): the training goes on, the record waits on disk", reason)
            self._away, self._away_until = True, time.monotonic() + RETRY_SECONDS
            return False
        return True


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
        raise CvmError(f"MLflow is sent no entry of the kind {kind!r}")


def _dataset(entry: Entry) -> Any:
    """Build MLflow's entity of the data set that a run was trained on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": entry["uri"]})
    found = Dataset(name=entry["name"], digest=entry["digest"], source_type="local", source=source)
    return DatasetInput(found, tags=[InputTag("mlflow.data.context", "training")])
