"""Trainings whose server ends before them."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("psutil", reason="psutil comes with MONAI Label")

from cvm_monai.label_app import running

RECORDS = """
import pathlib, sys, time
from cvm_monai.label_app.running import recorded
with recorded(pathlib.Path(sys.argv[1]), {"model": "cvm"}):
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    sys.argv[3] == "fails" and int("x")
"""


@pytest.fixture
def training(tmp_path):
    """Starts a process that is recorded as a training for some seconds."""
    started = []

    def start(seconds, how="ends"):
        command = [sys.executable, "-c", RECORDS, str(tmp_path), str(seconds), how]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def tasks():
    """MONAI Label's lists of tasks and processes, empty."""
    return SimpleNamespace(background_tasks={}, background_processes={}, background_executors={})


def ended(task):
    until = time.monotonic() + 60
    while task["status"] == "RUNNING" and time.monotonic() < until:
        time.sleep(0.1)
    return task["status"]


@pytest.mark.parametrize("how, status", [("ends", "DONE"), ("fails", "ERROR")])
def test_a_server_that_starts_follows_a_training_that_still_runs(training, tmp_path, how, status):
    process, utils = training(2, how), tasks()
    assert running.take_up(tmp_path, utils)
    (task,) = utils.background_tasks["train"]
    assert (task["status"], task["request"]) == ("RUNNING", {"model": "cvm"})
    assert utils.background_processes["train"][task["id"]].pid == process.pid
    assert ended(task) == status
    assert utils.background_processes["train"] == {}
    assert json.loads((tmp_path / running.RECORD).read_text())["status"] == status


def test_a_training_that_was_killed_ends_as_an_error(training, tmp_path):
    process, utils = training(60), tasks()
    assert running.take_up(tmp_path, utils)
    process.kill()
    assert ended(utils.background_tasks["train"][0]) == "ERROR"


def test_a_training_that_has_ended_is_not_taken_up(training, tmp_path):
    utils = tasks()
    assert not running.take_up(tmp_path, utils)
    process = training(60)
    process.kill()
    process.wait()
    assert not running.take_up(tmp_path, utils)
    (tmp_path / running.RECORD).write_text("{")
    assert not running.take_up(tmp_path, utils)
    assert utils.background_tasks == {}


def test_another_process_of_the_same_number_is_not_taken_up(training, tmp_path):
    training(60)
    record = tmp_path / running.RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | {"created": 1.0}))
    assert not running.take_up(tmp_path, tasks())


def test_the_signals_that_end_the_server_end_its_trainings(training, monkeypatch):
    process, utils, heard = training(60), tasks(), []
    utils.background_processes["train"] = {"1": process}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda received, _: heard.append(received))
        running.end_with_server(utils)
        signal.raise_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heard == [signal.SIGINT]


def test_a_training_goes_on_when_nobody_reads_what_it_says(monkeypatch):
    tried = []

    def broken(*words, **__):
        tried.append(words)
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("builtins.print", broken)
    running.say("epoch 1")
    assert tried == [("epoch 1",)]
