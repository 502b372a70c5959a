"""What a comparison leaves on disk and in MLflow: each run's state and cost, and the record of all of them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.experiments.knobs import WHERE
from cvm_monai.experiments.plan import Run
from cvm_monai.files import is_leftover, refuse_difference, remove_folder, remove_leftovers, shown
from cvm_monai.knobs import with_earlier
from cvm_monai.runs import RunFolder, Status
from cvm_monai.runs.store import check_tracking_uri, default_tracking_uri
from cvm_monai.runs.tracking import TrackedRun, unique_run_name

MARKER, RECORD = "compare.json", "comparison.json"
"""In the folder of a run, and in that of the comparison."""
EXPERIMENT = "cvm_monai"
COMPARE = "compare"
"""Name of the study of Table 1; ablations have other names."""
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
    record = _record(run)
    marker = record.known
    if not record.path.is_file() or not marker:
        if run.folder.is_dir() and not all(map(is_leftover, run.folder.iterdir())):
            raise CvmError(f"{run.folder} holds files that are not a run of a comparison: give another --output")
        return "to do"
    if _complete(run):
        known = marker.get("configuration")
        refuse_difference(
            *(decisive(settings) for settings in (known if isinstance(known, dict) else {}, asked)),
            what=f"{run.folder} is finished with another configuration",
            advice="give another --output, or remove that folder to run it again",
        )
        return "finished"
    if (process := marker.get("process")) and _works_in(process, run.folder):
        raise CvmError(f"process {process} still works in {run.folder}: wait for it, or end it")
    return "to do"


def decisive(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the knobs that affect where and how a run is computed, but not its result.

    A knob that the configuration does not have yet has the value that was in effect then.
    """
    return {name: value for name, value in sorted(with_earlier(configuration).items()) if name not in WHERE}


def open_run(run: Run, asked: Mapping[str, Any]) -> None:
    """Remove the files of an interrupted run, and record the new run in its folder."""
    remove_leftovers(run.folder)
    remove_folder(run.folder)  # atomic: a partial folder would not be recognised as ours
    _record(run).begin({"configuration": dict(asked)})


def note_process(run: Run, process: int) -> None:
    """Record the id of the process that works in the folder."""
    _record(run).update(process=process)


def close_run(run: Run, *, cost: Cost | None) -> None:
    """Record that the run has ended: finished at some cost, or failed."""
    if cost is None:
        _record(run).end("FAILED")
    else:
        _record(run).end("FINISHED", cost=asdict(cost))


def read_cost(run: Run) -> Cost:
    """Read the cost of a finished run.

    Raises:
        CvmError: its record has no cost.
    """
    try:
        cost = _record(run).known["cost"]
        return Cost(**{field.name: _seconds_or_mib(cost[field.name]) for field in fields(Cost)})
    except (KeyError, TypeError, ValueError) as error:
        raise CvmError(
            f"{run.folder / MARKER} does not record the cost of the run: remove that folder to run it again"
        ) from error


def read_validation(run: Run) -> float:
    """Read the validation partial cross-entropy of a run's saved weights; NaN if an earlier version trained it."""
    found = RunFolder(run.folder).known.get("val_partial_ce")
    return float(found) if isinstance(found, int | float) else math.nan


def _seconds_or_mib(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise CvmError(f"{shown(value)} is not a number of seconds or bytes")
    return float(value)


def _record(run: Run) -> RunFolder:
    return RunFolder(run.folder, file=MARKER)


def _complete(run: Run) -> bool:
    """Whether both commands succeeded and all files for the report exist."""
    files = (run.folder / "models" / "model.pt", run.folder / "evaluation" / "per_case.csv")
    trained = RunFolder(run.folder).finished
    return _record(run).finished and trained and all(file.is_file() for file in files)


def _works_in(process: int, folder: Path) -> bool:
    """Whether a process with this id is running and was started for this folder."""
    if type(process) is not int or process == os.getpid():
        return False
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder) in words


class ParentRun:
    """The MLflow run above all runs of a comparison, reopened by a later command on the same output folder.

    Args:
        output: folder of `comparison.json` with the run's id and, by default, MLflow's database.
        tracking_uri: database or server, or `none`; by default as `default_tracking_uri`.
        experiment: of MLflow.
        study: name of the study, in one word.
    """

    def __init__(
        self, output: Path, *, tracking_uri: str | None = None, experiment: str = EXPERIMENT, study: str = COMPARE
    ) -> None:
        self.record, self.study = RunFolder(output, file=RECORD), study
        self.tracking_uri = tracking_uri or default_tracking_uri(output_dir=str(output))
        check_tracking_uri(self.tracking_uri)
        artifacts = output / "mlruns"
        self.run = TrackedRun(tracking_uri=self.tracking_uri, experiment=experiment, artifact_dir=artifacts)

    def open(self) -> str | None:
        """Return the run's id, joined or new; None if tracking is off."""
        known = self.record.known
        if known.get("mlflow_tracking_uri") != self.tracking_uri or not self.run.join(known.get("mlflow_run_id")):
            self.run.start(unique_run_name(prefix=self.study))
        facts = {"mlflow_run_id": self.run.run_id, "mlflow_tracking_uri": self.tracking_uri, "study": self.study}
        self.record.begin({**known, **facts}, goes_on=True)
        return self.run.run_id

    def close(self, status: Status, *, facts: Mapping[str, object], files: Sequence[Path] = ()) -> None:
        """Log the report, and end the run as FINISHED, FAILED or KILLED."""
        self.run.tags(facts)
        for file in files:
            self.run.artifact(file)
        self.run.end(status)
        self.record.end(status)


def check_study(output: Path, study: str) -> None:
    """Refuse an output folder of another study, whose report and data set would be overwritten.

    Raises:
        CvmError: the message names the study in the folder.
    """
    record = RunFolder(output, file=RECORD)
    found = record.known.get("study", COMPARE) if record.path.is_file() else study
    if found != study:
        raise CvmError(f"{output} holds the runs and the report of another study ({found}): choose another --output")
