"""What MLflow could not be told yet, as lines of JSON on disk: nothing is lost while the server is away."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shown, write_bytes

FILE = "mlflow_outbox.jsonl"

LARGEST = 2**63
"""Numbers from here on no database of MLflow's holds."""

Entry = Mapping[str, Any]
"""{kind, run_id, and what the kind needs}; see `TrackedRun`."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST  # also not NaN


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
"""What an entry of each kind holds beside `run_id`, and what it may be."""


def _mistake(entry: Any) -> str | None:
    """What an entry lacks, or holds that it cannot; None: nothing."""
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
    """Entries in the order in which they came; each is on disk before `add` returns.

    Args:
        path: of the file, which is there only while something waits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def files(self) -> Path:
        """The folder of files that wait with the entries, each removed when it is sent."""
        return self.path.with_suffix("")

    def __len__(self) -> int:
        return len(self.entries())

    def entries(self) -> list[dict[str, Any]]:
        """All that waits; a last line that a kill cut off is left out.

        Raises:
            CvmError: another line that is no JSON, or one that is no entry, with its number.
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
                if file.read(1) != b"\n":  # a kill cut the last line off: it would spoil this one
                    keep = self.path.read_bytes()
                    file.truncate(keep.rfind(b"\n") + 1)
            file.write(json.dumps(dict(entry)).encode() + b"\n")

    def send(self, deliver: Callable[[Entry], bool]) -> int:
        """Hand the entries to `deliver` one by one until it returns False; returns how many are left.

        What was delivered leaves the file at the end, or where an error ends the sending; a kill in between sends it
        twice.
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
