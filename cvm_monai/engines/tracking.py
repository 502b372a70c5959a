"""MLflow access through one small class: checks the address, creates a uniquely named run, always closes it."""

import hashlib
import json
import math
import os
import socket
import sqlite3
import time
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from cvm_monai.engines.outbox import FILE, Delivery, Outbox
from cvm_monai.engines.tracking_store import artifact_folder, client_of, database_file, follow_move, sqlite_address
from cvm_monai.errors import CvmError
from cvm_monai.files import shown

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's default of 7 delays a training for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

OFF = "none"
DATABASE = "mlruns.db"
WRITER = "cvm_monai.writer"
"""Tag of a run that identifies its output folder."""
DIGEST = 12
"""Logged characters of a data set's digest, as many as MLflow's tables show; MLflow stores at most 36."""


def default_tracking_uri(*, output_dir: str) -> str:
    """Return MLFLOW_TRACKING_URI if it is set, else the address of a SQLite file in the output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(Path(output_dir).resolve() / DATABASE)


def writer_of(output_dir: str | Path, *, tracking_uri: str) -> str:
    """Identify the output folder among all that write into a store; constant if the store lies in that folder."""
    folder, file = Path(output_dir).resolve(), database_file(tracking_uri)
    if file is not None and file.resolve().parent == folder:
        return "output folder"
    return hashlib.sha256(f"{socket.gethostname()}:{folder}".encode()).hexdigest()[:16]


def unique_run_name(*, prefix: str) -> str:
    """`prefix-20260131-104500-1a2b3c`; with a reused name MLflow's handlers would continue a run that crashed."""
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def check_tracking_uri(uri: str) -> None:
    """Raise CvmError if MLflow does not accept this kind of address, or no server answers at it."""
    if uri == OFF:
        return
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme in ("http", "https"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
                return
        except (OSError, HTTPException) as error:
            raise CvmError(
                f"no MLflow server answers at {uri} ({getattr(error, 'reason', error)}): start it, or pass "
                "--tracking_uri none to train without tracking"
            ) from error
    if scheme in ("", "file"):
        raise CvmError(
            f"tracking_uri {uri!r} is a folder, which MLflow no longer takes: use sqlite:////path/mlruns.db, the "
            "address of a server, or none"
        )
    database_file(uri)


def recorded_store(uri: str, *, output_dir: str | Path) -> str:
    """Find the store that a training recorded: at its address, or as `mlruns.db` of an output folder that moved.

    For a copied folder it is the copy's store. The check is needed since MLflow creates a missing database silently.

    Raises:
        CvmError: no address, neither file exists, or the file is not an MLflow database.
    """
    if not isinstance(uri, str):
        raise CvmError(f"the training in {output_dir} recorded no MLflow store, but {shown(uri)}: train again")
    file = database_file(uri)
    if file is None:
        return uri
    moved = Path(output_dir).resolve() / DATABASE
    if file.is_file() and not _holds_run_of(moved, Path(output_dir) / "run.json"):
        check_database(file)
        return uri
    if not moved.is_file():
        raise CvmError(
            f"the MLflow database that the training in {output_dir} recorded, {file}, is not there, nor is {moved}: "
            "put it there, or train again"
        )
    check_database(moved)
    return sqlite_address(moved)


def _holds_run_of(database: Path, record: Path) -> bool:
    """Whether a database contains the run that a training recorded."""
    try:
        run_id = json.loads(record.read_text(encoding="utf-8"))["mlflow_run_id"]
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as found:
            return found.execute("SELECT 1 FROM runs WHERE run_uuid = ?", [run_id]).fetchone() is not None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, sqlite3.Error):
        return False


def check_database(file: Path) -> None:
    """Check a database without changing it; MLflow would create its tables in an empty one.

    Raises:
        CvmError: it is damaged, or not an MLflow database.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
    except sqlite3.Error as error:
        raise CvmError(f"the MLflow database {file} is damaged ({error}): restore it, or train again") from error
    if found is None:
        raise CvmError(f"{file} is no MLflow database: restore it, or train again")


def send_waiting(output_dir: str | Path) -> int:
    """Send to MLflow what the training in `output_dir` could not; returns the number of entries.

    Raises:
        CvmError: no training in the folder, or MLflow still does not answer.
    """
    record, outbox = Path(output_dir) / "run.json", Outbox(Path(output_dir) / FILE)
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        recorded, run_id = facts["mlflow_tracking_uri"], facts.get("mlflow_run_id")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CvmError(f"{record} is not the record of a training: name its output folder") from error
    waiting = len(outbox)
    if not waiting:
        return 0
    uri = recorded_store(recorded, output_dir=output_dir)
    if database_file(uri) is not None:
        TrackedRun(tracking_uri=uri, experiment="", artifact_dir=artifact_folder(uri, output_dir=output_dir)).join(
            run_id
        )
    left = Delivery(client_of(uri), outbox=outbox).flush(now=True)
    if left:
        raise CvmError(f"MLflow at {uri} does not answer: {left} entries still wait in {outbox.path}: try again later")
    return waiting


class TrackedRun:
    """One MLflow run; does nothing where the address is `none`.

    Args:
        tracking_uri: database or server, or `none`.
        experiment: name; created if missing, with its artifacts in `artifact_dir` for a local database.
        artifact_dir: folder for a local database's artifacts.
        outbox: file that queues entries while MLflow does not answer, once the run exists; without one a failure is
            an error.
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
        self._ended = False
        self._params: dict[str, str] = {}
        self._client: Any = None

    def start(self, name: str) -> None:
        """Create the run."""
        if self.tracking_uri == OFF:
            return
        self._connect()
        tags = {} if self.writer is None else {WRITER: self.writer}  # set on creation: a kill may follow at once
        self.run_id = self._client.create_run(self._experiment_id(), run_name=name, tags=tags).info.run_id

    def close_stale(self) -> int:
        """Mark the writer's other runs that still have the status RUNNING as KILLED; returns how many.

        The writer alone holds its output folder, so that these runs must have been killed before they could be closed.
        """
        return 0 if self.run_id is None or self.writer is None else self._delivery.count(self._close_stale)

    def _close_stale(self) -> int:
        experiment = self._client.get_run(self.run_id).info.experiment_id
        running = f"attributes.status = 'RUNNING' and tags.`{WRITER}` = '{self.writer}'"
        stale = [run.info.run_id for run in self._client.search_runs([experiment], running)]
        for run_id in stale:
            if run_id != self.run_id:
                self._client.set_terminated(run_id, status="KILLED")
        return len(stale) - (self.run_id in stale)

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

        self._connect()
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
        run = self._client.get_run(run_id)
        self._delivery.known = {
            (name, point.step) for name in run.data.metrics for point in self._client.get_metric_history(run_id, name)
        }
        self._params = dict(run.data.params)
        self._client.update_run(run_id, status="RUNNING")
        self._delivery.flush(now=True)
        name: str = run.info.run_name
        return name

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as text; MLflow does not change a parameter, so a changed value becomes a tag of its name."""
        for name, value in values.items():
            if name not in self._params:
                self._send("param", name=name, value=str(value))
            elif self._params[name] != str(value):
                self._send("tag", name=name, value=str(value))

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log the finite values of these metrics at a step."""
        for name, value in values.items():
            if math.isfinite(value):
                self._send("metric", name=name, value=float(value), step=step, time=_now())

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags, as text."""
        for name, value in values.items():
            self._send("tag", name=name, value=str(value))

    def dataset(self, name: str, *, digest: str, uri: str) -> None:
        """Log the training's data set, by which MLflow lists and groups runs."""
        self._send("dataset", name=name, digest=digest[:DIGEST], uri=uri)

    def artifact(self, path: Path, *, folder: str | None = None) -> None:
        """Copy a file into the run."""
        if path.is_file():
            self._send("artifact", path=self._named(path), folder=folder, temporary=False)

    def figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as PNG."""
        if not self.run_id or self._delivery.call(lambda: self._client.log_figure(self.run_id, figure, name)):
            return
        assert self.outbox is not None
        path = self.outbox.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        folder = name.rpartition("/")[0] or None
        self._send("artifact", path=self._named(path), folder=folder, temporary=True)

    def _named(self, path: Path) -> str:
        """Express a file's path relative to the outbox's folder, which may move before the entry is sent."""
        if self.outbox is None or not path.resolve().is_relative_to(self.outbox.path.parent.resolve()):
            return str(path.resolve())
        return str(path.resolve().relative_to(self.outbox.path.parent.resolve()))

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED; later calls change nothing."""
        if not self._ended:
            self._ended = True
            self._send("status", value=status, time=_now())

    def settle(self) -> int:
        """Send what waits in the outbox; returns how many entries are left."""
        return self._delivery.flush(now=True) if self.run_id else 0

    def _send(self, kind: str, **what: Any) -> None:
        if self.run_id:
            self._delivery.send({"kind": kind, "run_id": self.run_id, **what})

    def _connect(self) -> None:
        file = database_file(self.tracking_uri)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._client = client_of(self.tracking_uri)
        self._delivery = Delivery(self._client, outbox=self.outbox)


def _now() -> int:
    """Milliseconds since 1970, the unit of MLflow's times."""
    return time.time_ns() // 1_000_000
