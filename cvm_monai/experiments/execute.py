"""Execute runs: two commands each, in separate processes, several in parallel; a failed run stops no other."""

import math
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from cvm_monai.bundle_files import as_entry, config_file
from cvm_monai.data.cache import cache_limit
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.state import Cost, close_run, note_process, open_run
from cvm_monai.free_memory import free_memory

QUIET = ("-W", "ignore::UserWarning:monai.bundle.scripts")
"""Setting that silences MONAI's warning that configurations execute code: this one is the project's own."""


@dataclass(frozen=True)
class RunPaths:
    """Paths and addresses of a run: bundle and data set, MLflow's address, and its parent MLflow run."""

    bundle: Path
    dataset: Path
    tracking_uri: str
    parent_run_id: str | None = None


def training_words(run: Run, place: RunPaths) -> list[str]:
    """Arguments after `python` to train."""
    words = ["-m", "monai.bundle", "run", "training", "--config_file"]
    words += [str(config_file(place.bundle / "configs", "train"))]
    words += ["--dataset_dir", as_entry(place.dataset), "--output_dir", as_entry(run.folder)]
    words += ["--fold", str(run.fold), "--seed", str(run.seed), *_options(run, nested=True)]
    words += ["--tracking_uri", place.tracking_uri]
    return words + (["--parent_run_id", place.parent_run_id] if place.parent_run_id else [])


def evaluating_words(run: Run, place: RunPaths) -> list[str]:
    """Arguments after `python` to score the test fold, without the changes to inner sections for the training."""
    configs = [str(config_file(place.bundle / "configs", name)) for name in ("train", "evaluate")]
    words = ["-m", "monai.bundle", "run", "evaluating", "--config_file", str(configs)]
    return [
        *words,
        "--output_dir",
        as_entry(run.folder),
        *_options(run, nested=False),
        "--tracking_uri",
        place.tracking_uri,
    ]


def runnable(words: Sequence[str]) -> list[str]:
    """The complete command line as it is executed."""
    return [sys.executable, *QUIET, *words]


def shown(words: Sequence[str]) -> str:
    """The command as a user would type it."""
    return shlex.join(["python", *words])


def _options(run: Run, *, nested: bool) -> list[str]:
    chosen = {name: value for name, value in run.knobs.items() if nested or "#" not in name}
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]


LOOK = 0.2
"""Seconds between two checks of a running process."""

GRACE = 10.0
"""Seconds between terminating a process and killing it."""


@dataclass(frozen=True)
class Ended:
    """Result of a process: exit code (negative: signal), wall seconds, peak memory in MiB."""

    code: int
    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class Outcome:
    """Result of a run: its cost, or the last log line of the command that failed."""

    cost: Cost | None
    failure: str = ""


class Executor(Protocol):
    """Interface that executes a run; tests use one that trains nothing."""

    def __call__(self, run: Run, place: RunPaths) -> Outcome:
        """Train and evaluate; called from several threads in parallel."""

    def stop(self) -> None:
        """Stop all runs in progress."""


class Processes:
    """Executes runs as processes with one OpenMP thread each; their output goes to a log in the run's folder.

    Args:
        workers: cores that the solver of one run may use.
        cache: GiB of decoded images that one run may hold unless its knobs say it; None: as the bundle decides.
    """

    def __init__(self, *, workers: int = 1, cache: float | None = None) -> None:
        self._cache = () if cache is None else ("--cache", f"{cache:.3f}")
        self._environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "LOKY_MAX_CPU_COUNT": str(workers),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
        }
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def __call__(self, run: Run, place: RunPaths) -> Outcome:
        """Train, then evaluate if the training succeeded."""
        seconds, peak = [], 0.0
        for name, words in (("training", training_words(run, place)), ("evaluating", evaluating_words(run, place))):
            log = run.folder / f"{name}.log"
            bounded = words if "--cache" in words else [*words, *self._cache]
            ended = self._process(run, runnable(bounded), log)
            if ended.code != 0:
                return Outcome(None, f"{name} ended with code {ended.code}: {last_line(log)} ({log})")
            seconds.append(ended.seconds)
            peak = max(peak, ended.peak_memory_mib)
        return Outcome(Cost(seconds[0], seconds[1], peak))

    def stop(self) -> None:
        """Terminate all processes; kill those that do not end."""
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
    """Return exit code and peak memory in MiB of a child process, or of its largest child if that is larger.

    Linux initialises a process's peak with that of its parent, so that the kernel's value at the end counts only above
    our own peak; below it, the last measurement of the running process counts.
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
    """Peak memory of a running process, in KiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"


MEMORY_OF_A_RUN = 3 * 2**10
"""Estimated memory of one training with images of moderate size, in MiB."""


def default_jobs() -> int:
    """Default number of parallel runs: half the cores, limited by the free memory; 1 if all share a CUDA device."""
    import torch

    if torch.cuda.is_available():
        return 1
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(facts["MemAvailable"].split()[0]) // 2**10
    return max(1, min(len(os.sched_getaffinity(0)) // 2, available // MEMORY_OF_A_RUN))


def workers_of(jobs: int) -> int:
    """Number of cores for the solver of each of `jobs` parallel runs."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, jobs))


def cache_of(jobs: int) -> float | None:
    """GiB of decoded images that each of `jobs` parallel runs may hold; None where the system says nothing."""
    limit = cache_limit(None, free=free_memory()) / max(1, jobs) / 2**30
    return limit if math.isfinite(limit) else None


def processes_for(jobs: int) -> Processes:
    """Processes that share cores and free memory with `jobs - 1` others."""
    return Processes(workers=workers_of(jobs), cache=cache_of(jobs))


def run_all(
    runs: Sequence[tuple[Run, Mapping[str, Any]]],
    place: RunPaths,
    *,
    execute: Executor,
    jobs: int,
    finished: int = 0,
) -> list[tuple[Run, str]]:
    """Execute runs with their configurations, `jobs` in parallel; returns the failed runs, and why.

    An interruption stops the runs in progress, which stay marked as unfinished, and is raised to the caller.

    Args:
        runs: in order of execution.
        place: see `RunPaths`.
        execute: executes one run.
        jobs: raising it uses more cores and more memory.
        finished: number of runs finished before, for the progress display.
    """
    failures: list[tuple[Run, str]] = []
    total, began = finished + len(runs), time.perf_counter()
    bar = tqdm(total=total, initial=finished, desc="runs", unit="run", disable=None, dynamic_ncols=True)
    pool = ThreadPoolExecutor(max_workers=jobs)
    waiting: dict[Future[Outcome], Run] = {pool.submit(_one, *run, place, execute): run[0] for run in runs}
    try:
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED, timeout=1).done:
                run = waiting.pop(future)
                outcome = future.result()
                if outcome.cost is None:
                    failures.append((run, outcome.failure))
                done = len(runs) - len(waiting)
                left = (time.perf_counter() - began) / done * len(waiting)
                _tell(bar, run, outcome, f"{finished + done}/{total} runs, {tqdm.format_interval(left)} left")
            bar.refresh()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        execute.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return failures


def _one(run: Run, asked: Mapping[str, Any], place: RunPaths, execute: Executor) -> Outcome:
    """Execute one run and record its state; an error of the file system fails this run only."""
    try:
        open_run(run, asked)
        outcome = execute(run, place)
        close_run(run, cost=outcome.cost)
    except OSError as error:
        return Outcome(None, f"{error.filename or run.folder}: {error.strerror or error}")
    return outcome


def _tell(bar: tqdm, run: Run, outcome: Outcome, progress: str) -> None:
    """Write one line per run; with a terminal it is written above the bar, which shows the remaining time itself."""
    if outcome.cost is None:
        text = f"FAILED {run.name}: {outcome.failure}"
    else:
        cost = outcome.cost
        seconds = cost.training_seconds + cost.evaluating_seconds
        text = f"done   {run.name}: {seconds:.0f} s, {cost.peak_memory_mib:.0f} MiB"
    if bar.disable:
        print(f"{text} ({progress})", file=sys.stderr, flush=True)
    else:
        bar.write(text, file=sys.stderr)
        bar.update()
