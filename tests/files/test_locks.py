"""One process for one folder: who waits, who is refused, and what a kill frees."""

import os
import subprocess
import sys
import time

import pytest

from cvm_monai.files import LOCK, NoLocksError, check_lockable, lock_folder, made_by_one

HOLD = """
import sys, time
from pathlib import Path
from cvm_monai.files import lock_folder
with lock_folder(Path(sys.argv[1])) as holder:
    print(holder, flush=True)
    time.sleep(float(sys.argv[2]))
"""
MAKE = """
import sys, time
from pathlib import Path
from cvm_monai.files import made_by_one
with made_by_one(Path(sys.argv[1])):
    with open(sys.argv[2], "a") as log:
        print("in", file=log, flush=True)
        time.sleep(0.05)
        print("out", file=log, flush=True)
"""


def start(script, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_holder_is_named_and_a_kill_frees_the_folder_at_once(tmp_path):
    folder = tmp_path / "new"
    with start(HOLD, folder, 100) as process:
        assert process.stdout.readline() == "None\n"
        with lock_folder(folder) as holder:
            assert holder.startswith(f"process {process.pid} on ")
        process.kill()
    with lock_folder(folder) as holder:
        assert holder is None
        assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert (folder / LOCK).is_file()


def test_one_that_is_about_to_end_is_waited_for(tmp_path):
    with start(HOLD, tmp_path, 0.5) as process:
        assert process.stdout.readline() == "None\n"
        with lock_folder(tmp_path, wait=60) as holder:
            assert holder is None


def test_one_process_cannot_hold_a_folder_twice_and_waits_no_longer_than_asked(tmp_path):
    began = time.monotonic()
    with lock_folder(tmp_path), lock_folder(tmp_path, wait=0.3) as holder:
        assert holder.startswith(f"process {os.getpid()} on ")
        assert time.monotonic() - began >= 0.3
        assert (tmp_path / LOCK).read_text().strip() == holder  # who is refused does not change it
    with lock_folder(tmp_path) as holder:
        assert holder is None


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    sentence = r"file cannot be written \(File exists\): choose another --output$"
    with pytest.raises(ValueError, match=sentence), lock_folder(tmp_path / "file", option="--output"):
        pytest.fail("it was entered")
    with pytest.raises(ValueError, match=r"file cannot be written \(File exists\): choose another --output$"):
        check_lockable(tmp_path / "file")


def test_without_locks_a_folder_is_refused_and_no_file_stands_for_a_lock(tmp_path, monkeypatch):
    for number, reason in ((37, "No locks available"), (38, "Function not implemented")):

        def no_locks(*_, number=number, reason=reason):
            raise OSError(number, reason)

        monkeypatch.setattr("fcntl.flock", no_locks)
        sentence = rf"out cannot be locked \({reason}\): its file system has no locks; choose another --output$"
        with pytest.raises(NoLocksError, match=sentence), lock_folder(tmp_path / "out"):
            pytest.fail("it was entered")
        with pytest.raises(NoLocksError, match=sentence):
            check_lockable(tmp_path / "out")
        with made_by_one(tmp_path / "lock"):
            assert (tmp_path / "lock").is_file()
    monkeypatch.undo()
    with lock_folder(tmp_path / "out") as holder:
        assert holder is None


def test_a_folder_that_can_be_locked_is_left_empty(tmp_path):
    check_lockable(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_makers_come_one_after_another_and_the_lock_file_goes(tmp_path):
    jobs = [start(MAKE, tmp_path / ".db.lock", tmp_path / "log") for _ in range(4)]
    assert [job.wait(timeout=60) for job in jobs] == [0] * 4
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 4
    assert os.listdir(tmp_path) == ["log"]
