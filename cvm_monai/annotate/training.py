"""Run one training at a time as the bundle's own command, in a process that goes on without the server.

What is known of it lies in `training.json` and in its run folder, so that the next server takes it up.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from cvm_monai.annotate.dataset import Annotated, check_annotated, make_dataset
from cvm_monai.annotate.kept_features import feature_folder, remove_features
from cvm_monai.annotate.project import Project
from cvm_monai.bundle_files import as_entry, checked_bundle, read_config
from cvm_monai.errors import CvmError
from cvm_monai.files import read_record, write_json
from cvm_monai.interactive.trainings import (
    TRAINABLE,
    Learner,
    bundle_command,
    learner_configuration,
    new_run_folder,
    training_configuration,
    training_environment,
)
from cvm_monai.runs.store import sqlite_address

Phase = Literal["none", "preparing", "running", "stopping", "stopped", "finished", "failed"]

RECORD = "training.json"
LOG = "training.log"
LOOKED_AT_EVERY = 0.5
"""Seconds between two looks at the process."""

PATIENCE = 30.0
"""Seconds that an interrupted training has to save what it knows."""

ACTIVE = ("preparing", "running", "stopping")


@dataclass(frozen=True)
class Record:
    """What is known of the last training, beside its run folder.

    Attributes:
        run: name of its folder.
        words: its command.
        pid: of its process, which leads its session.
        message: why it failed.
    """

    phase: Phase = "none"
    run: str | None = None
    max_epochs: int = 0
    words: tuple[str, ...] = ()
    pid: int | None = None
    message: str | None = None


class Trainings:
    """Starts, stops and resumes the training of a project. Threads may share it.

    Args:
        project: whose annotations train.
        device: to train on.
        trained: called with the run folder of each training that has finished.
        changed: called whenever there may be something new to show.
    """

    def __init__(
        self,
        project: Project,
        *,
        device: str = "cpu",
        trained: Callable[[Path], None] = lambda _: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.project, self.device, self.trained, self.changed = project, device, trained, changed
        self.runs = project.work / "runs"
        self._file = project.work / RECORD
        self._lock = threading.RLock()
        self._record = _read(self._file)
        self._process: subprocess.Popen[bytes] | None = None
        self._take_up()

    @property
    def record(self) -> Record:
        """What is known of the last training."""
        return self._record

    def folder(self) -> Path | None:
        """Return the run folder of the last training."""
        return None if self._record.run is None else self.runs / self._record.run

    def start(
        self,
        found: Sequence[Annotated],
        *,
        max_epochs: int | None,
        knobs: Mapping[str, Any],
        learner: Learner = "network",
    ) -> None:
        """Start a training on annotated images: the data set is made first, in the background.

        Raises:
            CvmError: one runs already, a bad knob, no bundle, pretrained features that are not installed, or
                annotations that cannot train.
        """
        chosen = _read_knobs(knobs)
        if max_epochs is not None:
            chosen["max_epochs"] = TRAINABLE["max_epochs"].read(max_epochs)
        check_annotated(self.project, found)
        config = training_configuration(checked_bundle())
        behind = learner_configuration(config, learner)
        with self._lock:
            self._check_idle()
            run = new_run_folder(self.runs)
            default = TRAINABLE["max_epochs"].default if behind is None else read_config(behind)["max_epochs"]
            self._set(Record("preparing", run.name, int(chosen.get("max_epochs", default))))
        files = [str(config)] if behind is None else [str(config), str(behind)]
        self._in_background(lambda: self._prepare(run, found, chosen, files, learner))

    def stop(self) -> None:
        """Interrupt the training; it saves what it knows, and can be resumed.

        Raises:
            CvmError: none runs.
        """
        with self._lock:
            if self._record.phase not in ("preparing", "running"):
                raise CvmError("no training runs")
            pid = self._record.pid
            self._set(replace(self._record, phase="stopping"))
        if pid is not None:
            self._in_background(lambda: _end(pid))

    def resume(self) -> None:
        """Go on with a training that was stopped or has failed.

        Raises:
            CvmError: there is none, or one runs.
        """
        with self._lock:
            self._check_idle()
            if not self.can_resume():
                raise CvmError("there is no training to resume: start one")
            self._launch(self._record.words)

    def can_resume(self) -> bool:
        """Whether the last training can go on."""
        return self._record.phase in ("stopped", "failed") and bool(self._record.words)

    def _check_idle(self) -> None:
        if self._record.phase in ACTIVE:
            raise CvmError("a training runs already: stop it first")

    def _set(self, record: Record) -> None:
        self._record = record
        write_json(self._file, asdict(record))
        self.changed()

    def _in_background(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="training", daemon=True).start()

    def _prepare(
        self, run: Path, found: Sequence[Annotated], chosen: Mapping[str, Any], files: Sequence[str], learner: Learner
    ) -> None:
        """Make the data set, then start the process."""
        try:
            remove_features(self.runs)  # of a training that was stopped, and cannot be resumed any more
            data = make_dataset(self.project, found, run)
            features = feature_folder(run, data, learner=learner, chosen=chosen)
        except (CvmError, OSError) as error:
            with self._lock:
                self._set(Record("failed", run.name, self._record.max_epochs, message=self._sentence(str(error))))
            return
        values: dict[str, Any] = {"pairs": data.pairs, **chosen}
        values |= {} if data.mpp is None or "scale" in chosen else {"mpp": data.mpp}
        values |= {"dataset_dir": as_entry(data.folder), "output_dir": as_entry(run), "resume": "auto"}
        values |= {"tracking_uri": sqlite_address(self.project.work / "mlruns.db")}
        values |= {"experiment_name": "cvm_monai_annotate", "device": f"$torch.device({self.device!r})"}
        values |= {} if features is None else {"feature_store": as_entry(features)}
        if torch.device(self.device).type == "cpu":
            values["amp"] = False
        words = bundle_command("training", files, values)
        with self._lock:
            if self._record.phase == "stopping":
                self._set(replace(self._record, phase="stopped", words=tuple(words)))
                return
            self._launch(words)

    def _launch(self, words: Sequence[str]) -> None:
        """Start the process in a session of its own, so that it outlives the server."""
        folder = self.folder()
        assert folder is not None
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=training_environment(),
                start_new_session=True,
            )
        pid = self._process.pid
        self._set(replace(self._record, phase="running", words=tuple(words), pid=pid, message=None))
        self._in_background(lambda: self._watch(pid))

    def _take_up(self) -> None:
        """Follow a training that an earlier server started, or find out how it ended."""
        record = self._record
        if record.phase == "preparing" or (record.phase == "stopping" and record.pid is None):
            self._set(replace(record, phase="failed", message="the server ended while the data set was made"))
        elif record.phase in ACTIVE and record.pid is not None:
            pid = record.pid
            self._in_background(lambda: self._watch(pid))

    def _watch(self, pid: int) -> None:
        """Wait for the end of the process, and tell of its progress."""
        folder, seen = self.folder(), -1
        assert folder is not None
        while self._is_alive(pid):
            size = (folder / LOG).stat().st_size if (folder / LOG).is_file() else 0
            if size != seen:
                seen = size
                self.changed()
            time.sleep(LOOKED_AT_EVERY)
        self._finish(folder)

    def _is_alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return is_alive(pid, self._record.run or "")

    def _finish(self, folder: Path) -> None:
        """Record how the training ended, and use its network if it finished."""
        facts = read_record(folder / "run.json") or {}
        done = facts.get("status") == "FINISHED" and (folder / "models" / "model.pt").is_file()
        with self._lock:
            record = replace(self._record, pid=None)
            if done:
                remove_features(self.runs)
                self.trained(folder)
                self._set(replace(record, phase="finished"))
            elif record.phase == "stopping":
                self._set(replace(record, phase="stopped"))
            else:
                self._set(replace(record, phase="failed", message=self._sentence(last_line(folder / LOG))))

    def _sentence(self, text: str) -> str:
        return self.project.without_folder(" ".join(text.split()))[:1000]


def is_alive(pid: int, word: str) -> bool:
    """Whether a process runs whose command holds a word; the word tells it from a later one with its number."""
    if Path("/proc").is_dir():
        return word in _command_of(Path("/proc", str(pid)))
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _command_of(process: Path) -> str:
    """Return the command of a process, from its folder in /proc; empty for one that has ended.

    For an instant at the start of a process its command is empty too: it is asked for again.
    """
    for _ in range(20):
        try:
            command = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""
        if command or state in "ZX":
            return command
        time.sleep(0.01)
    return ""


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line for line in reversed(lines) if line.strip()), "the training ended without a word")


def _end(pid: int) -> None:
    """Interrupt the processes of a session, and kill them if they do not end in time."""
    until = time.monotonic() + PATIENCE
    with suppress(OSError):
        os.killpg(pid, signal.SIGINT)
        while time.monotonic() < until:
            time.sleep(0.2)
            os.killpg(pid, 0)
        os.killpg(pid, signal.SIGKILL)


def _read_knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Check the knobs of a request.

    Raises:
        CvmError: an unknown knob, or a value out of its range.
    """
    unknown = sorted(set(knobs) - set(TRAINABLE))
    if unknown:
        raise CvmError(f"there is no knob {unknown[0]!r} of a training: known are {', '.join(TRAINABLE)}")
    return {name: TRAINABLE[name].read(value) for name, value in knobs.items() if value is not None}


def _read(file: Path) -> Record:
    """Read the record; that of no training where it is missing or unreadable."""
    found = read_record(file) or {}
    try:
        return Record(**{**found, "words": tuple(found.get("words", ()))})
    except TypeError:
        return Record()
