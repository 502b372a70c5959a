"""The command for several processes: what it leaves behind, how it ends on a wrong value, and when a process dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import monai
import pytest
import torch

from cvm_monai.networks import build_network

from .conftest import BUNDLE, SMALL, TRAIN
from .test_kill import assert_logged_once, assert_same
from .test_training import only_run

MULTI = str(BUNDLE / "configs" / "multi_gpu_train.yaml")
BOTH = [TRAIN, MULTI]


def torchrun(phantom, output, *, stream=subprocess.PIPE, **changes):
    """The command of the documentation on two processes, started."""
    settings = {"dataset_dir": phantom, "output_dir": str(output), "tracking_uri": "none"} | SMALL | changes
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "monai.bundle", "run", "training", "--config_file", str(BOTH), *words]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, text=True, env=threads)


EPOCHS = 20
"""Enough that a kill after the first epoch comes long before the end."""


def start(phantom, output, **options):
    """A training that can be taken up again, with a record in its output folder."""
    settings = {"tracking_uri": f"sqlite:///{output}/mlruns.db", "accumulation_steps": 2, "max_epochs": EPOCHS}
    return torchrun(phantom, output, **settings, resume="auto", checkpoint_seconds=0, **options)


@pytest.fixture(scope="module")
def together(phantom, tmp_path_factory):
    """The output folder of two processes that nothing stopped, and what they said."""
    output = tmp_path_factory.mktemp("together") / "out"
    process = start(phantom, output)
    text = process.communicate(timeout=500)[0]
    assert process.returncode == 0, text
    return output, text


@pytest.mark.ci
def test_two_processes_leave_behind_what_one_does(together):
    output, text = together
    state = torch.load(output / "models" / "model.pt", weights_only=True)
    build_network("unet", channels=SMALL["network_channels"]).load_state_dict(state)
    record = json.loads((output / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("FINISHED", 2)
    client, run = only_run(output)
    assert run.info.status == "FINISHED"
    for name in ("train_partial_ce", "val_partial_ce", "pseudo_label_images"):
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps))
    labelled = run.data.metrics["pseudo_label_images"] + run.data.metrics["pseudo_label_skipped"]
    assert labelled == 4  # each training image once
    assert len(json.loads((output / "pseudo_labels" / "current.json").read_text())["files"]) == labelled
    assert f"epoch {EPOCHS}/{EPOCHS}" in text
    assert text.count(f"epoch 1/{EPOCHS}") == 1


@pytest.mark.ci
def test_a_wrong_value_is_one_sentence_and_the_process_ends_with_code_2(phantom, tmp_path):
    process = torchrun(phantom, tmp_path, eta=2)
    text = process.communicate(timeout=500)[0]
    assert process.returncode == 1  # torchrun's own, whatever its processes ended with
    assert re.findall("^error: .*", text, flags=re.MULTILINE) == ["error: --eta must be a number in [0, 1], got 2"]
    assert "[rank" not in text  # no traceback of ours
    assert re.search(r"Root Cause.*exitcode  : 2 ", text, flags=re.DOTALL)


@pytest.mark.ci
def test_a_killed_process_ends_the_training_which_goes_on_to_the_weights_of_one_that_never_stopped(
    phantom, together, tmp_path
):
    output, log = tmp_path / "out", tmp_path / "log"
    with log.open("w") as stream:
        process = start(phantom, output, stream=stream)
        try:
            wait_for((output / "checkpoints" / "checkpoints.json").exists, process, seconds=400)
            os.kill(process_of_rank(1, tmp_path), signal.SIGKILL)
            assert process.wait(timeout=500) == 1  # by itself, and not by the end of --process_timeout
        finally:
            process.terminate()
    text = log.read_text()
    assert len(re.findall("^error: .*start the training again$", text, flags=re.MULTILINE)) == 1
    assert re.search(r"Root Cause.*rank      : 1 .*\(SIGKILL\)", text, flags=re.DOTALL)
    assert json.loads((output / "run.json").read_text())["status"] in ("FAILED", "KILLED")
    torch.load(output / "models" / "model.pt", weights_only=True)  # the best network so far is kept

    again = start(phantom, output)
    text = again.communicate(timeout=500)[0]
    assert again.returncode == 0, text
    assert re.search(f"goes on after epoch [0-9]+ of {EPOCHS}", text)
    assert_same(together[0], output, renews=True)  # a sum over two processes has one order: to the bit
    assert_logged_once(output, epochs=EPOCHS)


def wait_for(found, process, *, seconds):
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < end, "the training did not begin in time"
        time.sleep(0.01)


def process_of_rank(rank, folder) -> int:
    """The process of a training that writes below a folder, as /proc knows it."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("the processes of a training are found by /proc, which this system lacks")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in command and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"there is no process of rank {rank}")


def test_without_torchrun_one_sentence_says_how_to_start(phantom, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=BOTH, dataset_dir=phantom, output_dir=str(tmp_path), **SMALL)
    assert "error: multi_gpu_train.yaml is for several processes: start it by torchrun" in capsys.readouterr().err


def test_the_configuration_trains_in_a_world_of_one(phantom, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    for name, value in (meeting | {"MASTER_ADDR": "127.0.0.1"}).items():
        monkeypatch.setenv(name, str(value))
    monai.bundle.run(
        "training", config_file=BOTH, dataset_dir=phantom, output_dir=str(tmp_path), tracking_uri="none", **SMALL
    )
    assert not torch.distributed.is_initialized()  # finalised
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("FINISHED", 1)


def test_accumulated_compiled_and_channels_last_a_training_saves_the_plain_network(phantom, tmp_path):
    knobs = {"accumulation_steps": 2, "batch_size": 1, "compile": True, "net#backend": "eager", "channels_last": True}
    settings = SMALL | {"max_epochs": 1, "tracking_uri": "none"} | knobs
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), **settings)
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    build_network("unet", channels=SMALL["network_channels"]).load_state_dict(state)
    assert json.loads((tmp_path / "run.json").read_text())["knobs"]["accumulation_steps"] == 2
