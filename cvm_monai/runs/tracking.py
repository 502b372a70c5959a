"""The run of a training, a comparison or a registration in MLflow: created, written into, gone on with, closed."""

import functools
import getpass
import hashlib
import logging
import math
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.runs.folder import RUN_FILE, RunFolder
from cvm_monai.runs.outbox import FILE, Entry, Outbox, bring, refused
from cvm_monai.runs.store import OFF, artifact_folder, client_of, database_file, follow_move, recorded_store

logger = logging.getLogger(__name__)

SOURCE = {"mlflow.source.name": "cvm_monai", "mlflow.source.type": "LOCAL"}
"""MLflow's source name of a run, shown beside its commit."""
NOTE, USER = "mlflow.note.content", "mlflow.user"
"""Tags that MLflow shows as a description and as who created a run."""
WRITER = "cvm_monai.writer"
"""Tag of a run that identifies its output folder."""
DIGEST = 12
"""Logged characters of a data set's digest, as many as MLflow's tables show; MLflow stores at most 36."""
RETRY_SECONDS = 30.0
"""Seconds without a new attempt after a server did not answer, so that a training is hardly delayed."""


def user_tag() -> dict[str, str]:
    """Return the tag of who runs this, as MLflow's own clients set it; none where the system does not say."""
    try:
        return {USER: getpass.getuser()}
    except (OSError, KeyError, ImportError):
        return {}


def writer_of(output_dir: str | Path, *, tracking_uri: str) -> str:
    """Identify the output folder among all that write into a store; constant if the store lies in that folder."""
    folder, file = Path(output_dir).resolve(), database_file(tracking_uri)
    if file is not None and file.resolve().parent == folder:
        return "output folder"
    return hashlib.sha256(f"{socket.gethostname()}:{folder}".encode()).hexdigest()[:16]


def unique_run_name(*, prefix: str) -> str:
    """`prefix-20260131-104500-1a2b3c`; with a reused name MLflow's handlers would continue a run that crashed."""
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


class TrackedRun:
    """One MLflow run; does nothing where the address is `none`.

    With an outbox no failure of MLflow stops the caller: each entry is written there first and removed when MLflow has
    it. While MLflow does not answer the entries wait, in order and with their own times; what it rejects is dropped
    with a warning. Without an outbox each failure is raised to the caller.

    Args:
        tracking_uri: database or server, or `none`.
        experiment: name; created if missing, with its artifacts in `artifact_dir` for a local database.
        artifact_dir: folder for a local database's artifacts.
        outbox: file of the entries that MLflow does not have yet.
        writer: identifier of the run's owner, the same at every start; `close_stale` finds its runs by it.
    """

    def __init__(
        self,
        *,
        tracking_uri: str,
        experiment: str,
        artifact_dir: Path,
        outbox: Path | None = None,
        writer: str | None = None,
    ) -> None:
        self.tracking_uri, self.experiment, self.artifact_dir = tracking_uri, experiment, artifact_dir
        self.outbox = None if outbox is None else Outbox(outbox)
        self.writer = writer
        self.run_id: str | None = None
        self._ended = self._away = False
        self._ask_again = 0.0
        self._params: dict[str, str] = {}
        self._known: set[tuple[str | None, str, int]] = set()
        """(run, metric, step) of the values that MLflow already has; they are not sent again."""

    @functools.cached_property
    def _client(self) -> Any:
        file = database_file(self.tracking_uri)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        if self.outbox is not None:
            self.outbox.entries()  # a damaged one is refused before a run is created
        return client_of(self.tracking_uri)

    def start(self, name: str) -> None:
        """Create the run."""
        if self.tracking_uri == OFF:
            return
        tags = {} if self.writer is None else {WRITER: self.writer}  # set on creation: a kill may follow at once
        self.run_id = self._client.create_run(self._experiment_id(), run_name=name, tags=tags).info.run_id

    def close_stale(self) -> int:
        """Mark the writer's other runs that still have the status RUNNING as KILLED; returns how many.

        The writer alone holds its output folder, so that these runs must have been killed before they could be closed.
        """
        closed: list[str] = []
        if self.run_id is not None and self.writer is not None:
            self._reached(lambda: self._close_stale(closed))
        return len(closed)

    def _close_stale(self, closed: list[str]) -> None:
        experiment = self._client.get_run(self.run_id).info.experiment_id
        running = f"attributes.status = 'RUNNING' and tags.`{WRITER}` = '{self.writer}'"
        for run in self._client.search_runs([experiment], running):
            if run.info.run_id != self.run_id:
                self._client.set_terminated(run.info.run_id, status="KILLED")
                closed.append(run.info.run_id)

    def _experiment_id(self) -> str:
        """Return the id of the experiment, created if missing; another process may create it at the same moment."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            local = self.tracking_uri.startswith("sqlite:")
            location = self.artifact_dir.resolve().as_uri() if local else None
            try:
                return str(self._client.create_experiment(self.experiment, artifact_location=location))
            except MlflowException:
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        follow_move(self.tracking_uri, recorded=found.artifact_location, now=self.artifact_dir)
        return str(found.experiment_id)

    def join(self, run_id: str | None) -> bool:
        """Write into an existing run; returns False if it does not exist."""
        if self.tracking_uri == OFF or run_id is None:
            return False
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException:
            return False
        follow_move(self.tracking_uri, recorded=run.info.artifact_uri, now=self.artifact_dir)
        self.run_id = run_id
        return True

    def go_on(self, run_id: str | None) -> str | None:
        """Resume an interrupted run: set its status to RUNNING; metrics that it already has are not logged again.

        Returns:
            Its name; None if there is no such run.
        """
        if not self.join(run_id):
            return None
        run = self._find_known()
        self._client.update_run(run_id, status="RUNNING")
        self.settle()
        name: str = run.info.run_name
        return name

    def _find_known(self) -> Any:
        """Find what the run has already; returns MLflow's entity of it."""
        run = self._client.get_run(self.run_id)
        self._known = {
            (self.run_id, name, point.step)
            for name in run.data.metrics
            for point in self._client.get_metric_history(self.run_id, name)
        }
        self._params = dict(run.data.params)
        return run

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as text; MLflow does not change a parameter, so a changed value becomes a tag of its name."""
        texts = {name: str(value) for name, value in values.items()}
        new = {name: text for name, text in texts.items() if self._params.get(name) != text}
        kinds = {name: "tag" if name in self._params else "param" for name in new}
        self._log({"kind": kinds[name], "name": name, "value": text} for name, text in new.items())

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log the finite values of these metrics at a step."""
        when, finite = {"step": step, "time": _now()}, [name for name, value in values.items() if math.isfinite(value)]
        self._log({"kind": "metric", "name": name, "value": float(values[name]), **when} for name in finite)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags, as text."""
        self._log({"kind": "tag", "name": name, "value": str(value)} for name, value in values.items())

    def dataset(self, name: str, *, digest: str, uri: str) -> None:
        """Log the training's data set, by which MLflow lists and groups runs."""
        self._log([{"kind": "dataset", "name": name, "digest": digest[:DIGEST], "uri": uri}])

    def artifact(self, path: Path, *, folder: str | None = None) -> None:
        """Copy a file into the run."""
        if path.is_file():
            name = str(path.resolve()) if self.outbox is None else self.outbox.name_of(path)
            self._log([{"kind": "artifact", "path": name, "folder": folder, "temporary": False}])

    def figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as PNG; the run must have an outbox."""
        if not self.run_id:
            return
        assert self.outbox is not None
        path = self.outbox.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        folder = name.rpartition("/")[0] or None
        self._log([{"kind": "artifact", "path": self.outbox.name_of(path), "folder": folder, "temporary": True}])

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED; later calls change nothing."""
        if not self._ended:
            self._ended = True
            self._log([{"kind": "status", "value": status, "time": _now()}])

    def settle(self) -> int:
        """Send what waits in the outbox now; returns how many entries are left."""
        return self._send_waiting() if self.run_id and self.outbox is not None else 0

    def _log(self, entries: Iterable[Entry]) -> None:
        """Send entries, or let them wait; a server that did not answer is asked again after a while only."""
        if not self.run_id:
            return
        entries = [{"run_id": self.run_id, **entry} for entry in entries]
        if self.outbox is None:
            for entry in entries:
                bring(self._client, entry)
        elif entries:
            self.outbox.add(entries)
            if time.monotonic() >= self._ask_again:
                self._send_waiting()

    def _send_waiting(self) -> int:
        assert self.outbox is not None
        left = self.outbox.send(self._bring)
        if left == 0:
            self._away, self._ask_again = False, 0.0
        return left

    def _bring(self, entry: Entry) -> bool:
        """Send an entry that waits; returns whether it need not wait any more."""
        assert self.outbox is not None
        if entry["kind"] == "metric" and (entry["run_id"], entry["name"], entry["step"]) in self._known:
            return True
        if entry["kind"] == "artifact":
            entry = {**entry, "path": str(self.outbox.path.parent / entry["path"])}
        if not self._reached(lambda: bring(self._client, entry)):
            return False
        if entry["kind"] == "artifact" and entry["temporary"]:
            self.outbox.remove(Path(entry["path"]))
        return True

    def _reached(self, action: Callable[[], Any]) -> bool:
        """Run `action`; returns whether MLflow answered. With an outbox, what it rejects is dropped."""
        if self.outbox is None:
            action()
            return True
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            action()
        except (MlflowException, RequestException) as error:
            reason = " ".join(str(error).split())[:200]
            if refused(error):
                logger.warning("MLflow rejected an entry, which is dropped: %s", reason)
                return True
            if not self._away:
                logger.warning(
                    "MLflow does not answer (%s): the training continues, the record is kept on disk", reason
                )
            self._away, self._ask_again = True, time.monotonic() + RETRY_SECONDS
            return False
        return True


def recorded_run(output_dir: str | Path, *, outbox: Path | None = None) -> TrackedRun:
    """Open the MLflow run that a training recorded, also after its folder was moved; its id is None if it is not there.

    Raises:
        CvmError: the store is not there, or damaged.
    """
    record = RunFolder(output_dir).known
    uri = recorded_store(record.get("mlflow_tracking_uri") or OFF, output_dir=output_dir)
    artifacts = artifact_folder(uri, output_dir=output_dir)
    run = TrackedRun(tracking_uri=uri, experiment="", artifact_dir=artifacts, outbox=outbox)
    run.join(record.get("mlflow_run_id"))
    return run


def send_waiting(output_dir: str | Path) -> int:
    """Send to MLflow what the training in `output_dir` could not; returns the number of entries.

    Raises:
        CvmError: no training in the folder, or MLflow still does not answer.
    """
    record, outbox = Path(output_dir) / RUN_FILE, Outbox(Path(output_dir) / FILE)
    if "mlflow_tracking_uri" not in RunFolder(output_dir).known:
        raise CvmError(f"{record} is not the record of a training: name its output folder")
    waiting = len(outbox)
    if not waiting:
        return 0
    run = recorded_run(output_dir, outbox=outbox.path)
    if run.run_id is not None:
        run._find_known()  # an earlier attempt may have ended between an entry's sending and its removal
    left = run._send_waiting()
    if left:
        raise CvmError(
            f"MLflow at {run.tracking_uri} does not answer: {left} entries still wait in {outbox.path}: try again later"
        )
    return waiting


def _now() -> int:
    """Milliseconds since 1970, the unit of MLflow's times."""
    return time.time_ns() // 1_000_000
