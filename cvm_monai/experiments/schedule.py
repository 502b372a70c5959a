"""Many runs, some at once: progress, what is finished is passed over, what fails does not stop the others."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvm_monai.experiments.commands import Place
from cvm_monai.experiments.execute import Executor, Outcome
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.state import close_run, open_run

MEMORY_OF_A_RUN = 3 * 2**10
"""What one training of moderate images may need, in MiB."""


def default_jobs() -> int:
    """Half the cores, as far as the free memory allows; 1 where a CUDA device is shared by all runs."""
    import torch

    if torch.cuda.is_available():
        return 1
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(facts["MemAvailable"].split()[0]) // 2**10
    return max(1, min(len(os.sched_getaffinity(0)) // 2, available // MEMORY_OF_A_RUN))


def workers_of(jobs: int) -> int:
    """Cores that the solver of one of so many runs may take."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, jobs))


def run_all(
    runs: Sequence[tuple[Run, Mapping[str, Any]]],
    place: Place,
    *,
    execute: Executor,
    jobs: int,
    finished: int = 0,
) -> list[tuple[Run, str]]:
    """Carry out runs with their configurations, `jobs` at once; the runs that failed, and why.

    An interruption ends what is in hand, which stays marked as unfinished, and goes on to the caller.

    Args:
        runs: what is to be done, in this order.
        place: see `Place`.
        execute: carries out one run.
        jobs: raising it uses more cores and more memory.
        finished: runs that were finished before, for the progress.
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


def _one(run: Run, asked: Mapping[str, Any], place: Place, execute: Executor) -> Outcome:
    """The whole life of a run; an error of the file system fails it alone."""
    try:
        open_run(run, asked)
        outcome = execute(run, place)
        close_run(run, cost=outcome.cost)
    except OSError as error:
        return Outcome(None, f"{error.filename or run.folder}: {error.strerror or error}")
    return outcome


def _tell(bar: tqdm, run: Run, outcome: Outcome, progress: str) -> None:
    """One line for each run; with a terminal it stands above the bar, which knows the time left itself."""
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
