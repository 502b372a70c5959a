"""One training for one output folder: the second is refused, a dead one is not."""

import os
import subprocess
import sys

import pytest

from cvm_monai.engines.processes import sole_writer

HOLD = """
import fcntl, sys, time
stream = open(sys.argv[1], "w")
fcntl.flock(stream, fcntl.LOCK_EX)
stream.write("process 17 on elsewhere")
stream.flush()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def holder(folder, *, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / ".lock"), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_another_process_holds_is_refused_and_free_when_that_is_killed(tmp_path):
    process = holder(tmp_path, seconds=100)
    sentence = (
        f"another training writes into {tmp_path} \\(process 17 on elsewhere\\): wait for its end, or choose another "
        "--output_dir"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"), sole_writer(tmp_path, wait=0):
        pytest.fail("it was entered")
    process.kill()
    process.wait()
    with sole_writer(tmp_path, wait=0):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_one_that_is_about_to_end_is_waited_for(tmp_path):
    process = holder(tmp_path, seconds=0.5)
    with sole_writer(tmp_path, wait=600):
        assert process.wait() == 0


def test_the_folder_is_made_and_free_afterwards_also_after_an_error(tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(KeyError, match="what a training raised"), sole_writer(folder, wait=0):
        raise KeyError("what a training raised")
    with sole_writer(folder, wait=0):
        pass


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    sentence = r"file cannot be written \(File exists\): choose another --output_dir"
    with pytest.raises(ValueError, match=sentence), sole_writer(tmp_path / "file"):
        pytest.fail("it was entered")


def test_without_locks_a_training_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with sole_writer(tmp_path):
        pass
    assert caplog.messages == [
        f"{tmp_path} is on a file system without locks: make sure that only one training writes there"
    ]
