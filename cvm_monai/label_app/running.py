"""Trainings beside the server: recorded while they run, taken up by the next server, ended with their own."""

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
"""In the app's folder: the process of the training that runs, or how the last one ended."""

LINES = 20
"""Of a training's output that `GET /train/` shows."""

PATIENCE = 10.0
"""Seconds that an interrupted process has to put its things in order."""

TIME = "%Y-%m-%d %H:%M:%S"

logger = logging.getLogger(__name__)


@contextmanager
def recorded(work: Path, request: Mapping[str, Any]) -> Iterator[None]:
    """Record that this process trains, and in the end whether it went well."""
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
    """Print a line; nobody reads it where the server has gone, and the training goes on."""
    with suppress(OSError):
        print(line, flush=True)


def take_up(work: Path, utils: Any) -> bool:
    """Give MONAI Label the training of an earlier server that still runs, as a task of its own; whether there is one.

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
    """Keep a task's lines and its end up to date."""
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
    """The record; empty where there is none that can be read."""
    return read_record(work / RECORD) or {}


def _process(record: Mapping[str, Any]) -> psutil.Process | None:
    """The process of a record where it still runs; a number may have gone to another one, begun at another time."""
    if record.get("status") != "RUNNING" or not isinstance(record.get("pid"), int):
        return None
    try:
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - float(record.get("created", 0))) < 1
    except (psutil.Error, ValueError, TypeError):
        return None
    return process if same and alive(process) else None


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tail(work: Path, process: psutil.Process) -> list[str]:
    """The last lines of the log of the training that a process began."""
    try:
        begun = process.create_time() - 1
        logs = [path for path in (work / "runs").glob("*/training.log") if path.stat().st_mtime >= begun]
        newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
        text = "" if newest is None else newest.read_text(encoding="utf-8", errors="replace")
    except (OSError, psutil.Error):
        return []
    return [line for line in text.splitlines() if line.strip()][-LINES:]


def end_with_server(utils: Any) -> None:
    """Let the signals that end the server end its trainings and batches too, once; the server would wait for them.

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
    """Interrupt the processes of MONAI Label's tasks, so that a training can close its run; no further one begins."""
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
    """Kill what has not ended after a while."""
    until = time.monotonic() + PATIENCE
    while any(map(alive, running)) and time.monotonic() < until:
        time.sleep(0.2)
    for process in filter(alive, running):
        _signal(process, signal.SIGTERM if not hasattr(signal, "SIGKILL") else signal.SIGKILL)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.Error, ValueError):  # it may have ended meanwhile
        process.send_signal(number)
