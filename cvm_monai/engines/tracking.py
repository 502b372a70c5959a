"""MLflow, spoken to through one small class: an address checked first, a run with a unique name, closed in any case."""

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
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own 7 hold a training up for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

OFF = "none"
DATABASE = "mlruns.db"
WRITER = "cvm_monai.writer"
"""Tag of a run: the output folder that it is of."""
DIGEST = 12
"""Characters of a data set's digest that MLflow's tables have room for; it keeps 36 at most."""


def default_tracking_uri(*, output_dir: str) -> str:
    """MLFLOW_TRACKING_URI where it is set, else a SQLite file below the output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(Path(output_dir).resolve() / DATABASE)


def writer_of(output_dir: str | Path, *, tracking_uri: str) -> str:
    """A mark of the output folder among all that write into a store: of its own database it is the only one."""
    folder, file = Path(output_dir).resolve(), database_file(tracking_uri)
    if file is not None and file.resolve().parent == folder:
        return "output folder"
    return hashlib.sha256(f"{socket.gethostname()}:{folder}".encode()).hexdigest()[:16]


def unique_run_name(*, prefix: str) -> str:
    """`prefix-20260131-104500-1a2b3c`: MLflow's handlers would otherwise continue a run that crashed."""
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def check_tracking_uri(uri: str) -> None:
    """CvmError where the address is of a kind that MLflow refuses, or where no server answers it."""
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
    """Where the store that a training recorded is now: that address, or `mlruns.db` of an output folder that moved.

    Of a folder that was copied it is the copy's. MLflow would make an empty database where it finds none.

    Raises:
        CvmError: no address, neither file is there, or one that is no such database.
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
    """Whether a database holds the run that a training recorded."""
    try:
        run_id = json.loads(record.read_text(encoding="utf-8"))["mlflow_run_id"]
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as found:
            return found.execute("SELECT 1 FROM runs WHERE run_uuid = ?", [run_id]).fetchone() is not None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, sqlite3.Error):
        return False


def check_database(file: Path) -> None:
    """Look into a database without changing it; MLflow would fill an empty one with its tables.

    Raises:
        CvmError: it is damaged, or none of MLflow's.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
    except sqlite3.Error as error:
        raise CvmError(f"the MLflow database {file} is damaged ({error}): restore it, or train again") from error
    if found is None:
        raise CvmError(f"{file} is no MLflow database: restore it, or train again")


def send_waiting(output_dir: str | Path) -> int:
    """Bring to MLflow what the training in `output_dir` could not; returns how many entries that were.

    Raises:
        CvmError: no training there, or MLflow still does not answer.
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
        experiment: name; made where it is missing, with its artifacts in `artifact_dir` for a local database.
        artifact_dir: folder for a local database's artifacts.
        outbox: file for what MLflow cannot be told once the run is there; without one such a failure is an error.
        writer: whose run it is, the same from one start to the next; `close_stale` knows its runs by it.
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
        tags = {} if self.writer is None else {WRITER: self.writer}  # with the run: a kill may follow at once
        self.run_id = self._client.create_run(self._experiment_id(), run_name=name, tags=tags).info.run_id

    def close_stale(self) -> int:
        """Mark the writer's other runs that are still called running as killed; returns how many were.

        The writer holds its output folder alone, so that a kill ended them before they could say so.
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
        """Of the experiment, made where it is missing; another process may make it at the same moment."""
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
        """Write into an existing run, where there is one; returns whether there is."""
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
        """Take an interrupted run up again: it is running once more, and steps that it has are not logged twice.

        Returns:
            Its name; None where there is no such run.
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
        """Log parameters, as text; MLflow refuses to change one, so that another value becomes a tag of its name."""
        for name, value in values.items():
            if name not in self._params:
                self._send("param", name=name, value=str(value))
            elif self._params[name] != str(value):
                self._send("tag", name=name, value=str(value))

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log the finite ones of some metrics at a step."""
        for name, value in values.items():
            if math.isfinite(value):
                self._send("metric", name=name, value=float(value), step=step, time=_now())

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags, as text."""
        for name, value in values.items():
            self._send("tag", name=name, value=str(value))

    def dataset(self, name: str, *, digest: str, uri: str) -> None:
        """Say what is trained on: MLflow lists and groups runs by it."""
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
        """A file as an entry names it: seen from the outbox's folder, which may move before the entry is sent."""
        if self.outbox is None or not path.resolve().is_relative_to(self.outbox.path.parent.resolve()):
            return str(path.resolve())
        return str(path.resolve().relative_to(self.outbox.path.parent.resolve()))

    def end(self, status: str) -> None:
        """FINISHED, FAILED or KILLED; later calls change nothing."""
        if not self._ended:
            self._ended = True
            self._send("status", value=status, time=_now())

    def settle(self) -> int:
        """Bring what waits in the outbox; returns how many entries are left."""
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
    """Milliseconds since 1970, as MLflow counts."""
    return time.time_ns() // 1_000_000
