"""Record running trainings, take them up after a restart of the server, and end them with the server."""

import json
import logging
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from cvm_monai.files import read_record, write_text

RECORD = "training.json"
"""In the app's folder: the process of the running training, or the outcome of the last one."""

LINES = 20
"""Number of lines of a training's output that `GET /train/` shows."""

PATIENCE = 10.0
"""Seconds that an interrupted process has to end cleanly."""

TIME = "%Y-%m-%d %H:%M:%S"

logger = logging.getLogger(__name__)


@contextmanager
def recorded(work: Path, request: Mapping[str, Any]) -> Iterator[None]:
    """Record that this process trains, and finally whether it succeeded."""
    process = psutil.Process()
    facts: dict[str, Any] = {"pid": process.pid, "created": process.create_time(), "request": dict(request)}
    facts |= {"started": datetime.now().strftime(TIME), "status": "RUNNING"}
    write_text(work / RECORD, json.dumps(facts, default=str) + "\n")
    try:
        yield
        facts["status"] = "DONE"
    except BaseException as error:
        facts |= {"status": "ERROR", "reason": str(error) or type(error).__name__}
        raise
    finally:
        write_text(work / RECORD, json.dumps(facts, default=str) + "\n")


def say(line: str) -> None:
    """Print a line; errors are ignored, as the training continues when the server has ended."""
    with suppress(OSError):
        print(line, flush=True)


def take_up(work: Path, utils: Any) -> bool:
    """Add an earlier server's running training to MONAI Label's tasks; returns whether there is one.

    Args:
        utils: the module `monailabel.utils.async_tasks.utils`.
    """
    record = _read(work)
    process = _process(record)
    if process is None:
        return False
    task = {
        "id": str(uuid.uuid4()),
        "status": "RUNNING",
        "request": record.get("request", {}),
        "start_ts": record.get("started"),
        "details": deque(_tail(work, process), maxlen=LINES),
    }
    utils.background_tasks.setdefault("train", []).append(task)
    utils.background_processes.setdefault("train", {})[task["id"]] = process
    logger.info("a training of an earlier server still runs (process %d): GET /train/ follows it", process.pid)
    watch = threading.Thread(target=_watch, args=(work, utils, task, process), daemon=True)
    watch.start()
    return True


def _watch(work: Path, utils: Any, task: dict[str, Any], process: psutil.Process) -> None:
    """Update a task's output lines and outcome."""
    while alive(process):
        task["details"].extend(line for line in _tail(work, process) if line not in task["details"])
        time.sleep(1)
    record = _read(work)
    same = record.get("pid") == process.pid
    task["details"].extend([str(record["reason"])] if same and record.get("reason") else [])
    task["end_ts"] = datetime.now().strftime(TIME)
    if task["status"] == "RUNNING":
        task["status"] = "DONE" if same and record.get("status") == "DONE" else "ERROR"
    utils.background_processes["train"].pop(task["id"], None)


def _read(work: Path) -> dict[str, Any]:
    """Read the record; empty where it is missing or unreadable."""
    return read_record(work / RECORD) or {}


def _process(record: Mapping[str, Any]) -> psutil.Process | None:
    """Return a record's process if it still runs; the start time tells it from another process of the same id."""
    if record.get("status") != "RUNNING" or not isinstance(record.get("pid"), int):
        return None
    try:
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - float(record.get("created", 0))) < 1
    except (psutil.Error, ValueError, TypeError):
        return None
    return process if same and alive(process) else None


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tail(work: Path, process: psutil.Process) -> list[str]:
    """Return the last lines of the log of the training that a process began."""
    try:
        begun = process.create_time() - 1
        logs = [path for path in (work / "runs").glob("*/training.log") if path.stat().st_mtime >= begun]
        newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
        text = "" if newest is None else newest.read_text(encoding="utf-8", errors="replace")
    except (OSError, psutil.Error):
        return []
    return [line for line in text.splitlines() if line.strip()][-LINES:]


def end_with_server(utils: Any) -> None:
    """Install, once, signal handlers that end trainings and batches with the server, which would wait for them.

    Args:
        utils: the module `monailabel.utils.async_tasks.utils`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)

        def ended(received: int, frame: Any, before: Any = before) -> None:
            interrupt(utils)
            if callable(before):
                before(received, frame)
            else:
                signal.signal(received, before)
                signal.raise_signal(received)

        signal.signal(number, ended)


def interrupt(utils: Any) -> None:
    """Interrupt the processes of MONAI Label's tasks, so that a training can close its run; no new ones begin."""
    for executor in utils.background_executors.values():
        executor.shutdown(wait=False, cancel_futures=True)
    running: list[psutil.Process] = []
    for processes in utils.background_processes.values():
        for process in list(processes.values()):
            try:
                first = psutil.Process(process.pid)
                running += [first, *first.children(recursive=True)]
            except psutil.Error:
                continue
    for one in running:
        _signal(one, signal.SIGINT)
    if running:
        threading.Thread(target=_kill_later, args=(running,)).start()


def _kill_later(running: list[psutil.Process]) -> None:
    """Kill processes that have not ended after a while."""
    until = time.monotonic() + PATIENCE
    while any(map(alive, running)) and time.monotonic() < until:
        time.sleep(0.2)
    for process in filter(alive, running):
        _signal(process, signal.SIGTERM if not hasattr(signal, "SIGKILL") else signal.SIGKILL)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.Error, ValueError):  # it may have ended meanwhile
        process.send_signal(number)
