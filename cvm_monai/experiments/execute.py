"""One run: its two commands, one after the other, each in a process of its own."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cvm_monai.experiments.commands import Place, evaluating_words, runnable, training_words
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.state import Cost, note_process

LOOK = 0.2
"""Seconds between looks at a living process."""

GRACE = 10.0
"""Seconds between asking a process to end and ending it."""


@dataclass(frozen=True)
class Ended:
    """How one process ended: exit code (negative: signal), wall seconds, most memory held in MiB."""

    code: int
    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: with its cost, or with the last line of the log of the command that failed."""

    cost: Cost | None
    failure: str = ""


class Executor(Protocol):
    """Whatever can carry out a run; tests have one that trains nothing."""

    def __call__(self, run: Run, place: Place) -> Outcome:
        """Train and evaluate; called from several threads at once."""

    def stop(self) -> None:
        """End what is being carried out."""


class Processes:
    """Carries out runs as processes with one OpenMP thread each; what they print goes to a log in the run's folder.

    Args:
        workers: cores that the solver of one run may take.
    """

    def __init__(self, *, workers: int = 1) -> None:
        self._environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "LOKY_MAX_CPU_COUNT": str(workers),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
        }
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def __call__(self, run: Run, place: Place) -> Outcome:
        """Train, then evaluate where that went well."""
        seconds, peak = [], 0.0
        for name, words in (("training", training_words(run, place)), ("evaluating", evaluating_words(run, place))):
            log = run.folder / f"{name}.log"
            ended = self._process(run, runnable(words), log)
            if ended.code != 0:
                return Outcome(None, f"{name} ended with code {ended.code}: {last_line(log)} ({log})")
            seconds.append(ended.seconds)
            peak = max(peak, ended.peak_memory_mib)
        return Outcome(Cost(seconds[0], seconds[1], peak))

    def stop(self) -> None:
        """Ask all processes to end; those that do not are ended."""
        with self._lock:
            self._stopped = True
            for process in self._running.values():
                process.terminate()
        deadline = time.monotonic() + GRACE
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        with self._lock:
            for process in self._running.values():
                process.kill()

    def _process(self, run: Run, command: Sequence[str], log: Path) -> Ended:
        began = time.perf_counter()
        with log.open("wb") as stream:
            with self._lock:
                if self._stopped:
                    return Ended(-signal.SIGTERM, 0.0, 0.0)
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=self._environment
                )
                self._running[process.pid] = process
            try:
                note_process(run, process.pid)
                process.returncode, peak = _wait(process.pid)
            finally:
                with self._lock:
                    del self._running[process.pid]
        return Ended(process.returncode, time.perf_counter() - began, peak)


def _wait(process: int) -> tuple[int, float]:
    """Exit code and peak memory in MiB of a process of ours, its own children's processes among them where larger.

    Linux starts a process's peak at that of the process that started it, so that what the kernel says at the end counts
    only above our own peak; below it, the last look at the living process counts.
    """
    seen = 0
    while True:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return os.waitstatus_to_exitcode(status), (usage.ru_maxrss if usage.ru_maxrss > floor else seen) / 1024
        seen = max(seen, _high_water(process))
        time.sleep(LOOK)


def _high_water(process: int) -> int:
    """The most memory that a living process has held, in KiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"
