"""State of a run on disk: finished, to be done, or of another configuration."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.experiments.knobs import difference
from cvm_monai.experiments.plan import Run
from cvm_monai.files import is_leftover, read_record, remove_folder, remove_leftovers, shown, write_json

MARKER = "compare.json"
State = Literal["finished", "to do"]


@dataclass(frozen=True)
class Cost:
    """Cost of a run: wall seconds of both commands, and the largest peak memory of its processes, in MiB."""

    training_seconds: float
    evaluating_seconds: float
    peak_memory_mib: float


def run_state(run: Run, asked: Mapping[str, Any]) -> State:
    """Determine whether a run is complete with the requested configuration.

    Raises:
        CvmError: it is complete with another one, its folder holds other files, or another process is working in it.
    """
    marker = _marker(run.folder)
    if marker is None:
        if run.folder.is_dir() and not all(map(is_leftover, run.folder.iterdir())):
            raise CvmError(f"{run.folder} holds files that are no run of a comparison: give another --output")
        return "to do"
    if _complete(run.folder, marker):
        known = marker.get("configuration")
        if found := difference(asked, known if isinstance(known, dict) else {}):
            raise CvmError(
                f"{run.folder} is finished with another configuration: {found}; give another --output, or remove that "
                "folder to run it again"
            )
        return "finished"
    if (process := marker.get("process")) and _works_in(process, run.folder):
        raise CvmError(f"process {process} still works in {run.folder}: wait for it, or end it")
    return "to do"


def open_run(run: Run, asked: Mapping[str, Any]) -> None:
    """Remove the files of an interrupted run, and record the new run in its folder."""
    remove_leftovers(run.folder)
    remove_folder(run.folder)  # atomic: a partial folder would not be recognised as ours
    write_json(run.folder / MARKER, {"state": "running", "configuration": dict(asked)})


def note_process(run: Run, process: int) -> None:
    """Record the id of the process that works in the folder."""
    _update(run, process=process)


def close_run(run: Run, *, cost: Cost | None) -> None:
    """Record that the run has ended: finished at some cost, or failed."""
    if cost is None:
        _update(run, state="failed")
    else:
        _update(run, state="finished", cost=asdict(cost))


def read_cost(run: Run) -> Cost:
    """Read the cost of a finished run.

    Raises:
        CvmError: its record has no cost.
    """
    try:
        cost = (_marker(run.folder) or {})["cost"]
        return Cost(**{field.name: _seconds_or_mib(cost[field.name]) for field in fields(Cost)})
    except (KeyError, TypeError, ValueError) as error:
        raise CvmError(
            f"{run.folder / MARKER} does not say what the run took: remove that folder to run it again"
        ) from error


def _seconds_or_mib(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise CvmError(f"{shown(value)} is not a number of seconds or bytes")
    return float(value)


def _marker(folder: Path) -> dict[str, Any] | None:
    return read_record(folder / MARKER)


def _update(run: Run, **changes: Any) -> None:
    write_json(run.folder / MARKER, {**(_marker(run.folder) or {}), **changes})


def _complete(folder: Path, marker: Mapping[str, Any]) -> bool:
    """Whether both commands succeeded and all files for the report exist."""
    status = (read_record(folder / "run.json") or {}).get("status")
    files = (folder / "models" / "model.pt", folder / "evaluation" / "per_case.csv")
    return marker.get("state") == "finished" and status == "FINISHED" and all(file.is_file() for file in files)


def _works_in(process: int, folder: Path) -> bool:
    """Whether a process with this id is running and was started for this folder."""
    if type(process) is not int or process == os.getpid():
        return False
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder) in words
