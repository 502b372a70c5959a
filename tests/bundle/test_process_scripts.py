"""How the processes of a training meet, and speak with one voice."""

import socket

import pytest
import torch
import torch.distributed as dist

from .test_scripts import script  # noqa: F401  (a fixture)

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def processes(script, monkeypatch):  # noqa: F811
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return script("processes")


@pytest.fixture
def store(monkeypatch, processes):
    """The store of a training of two processes, of which this is one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
        monkeypatch.setenv(name, value)
    return kept


def test_a_sentence_is_said_by_the_first_process_alone(processes, store, capsys):
    del store
    processes.say_once("error: fold 9 does not exist")
    processes.say_once("error: fold 9 does not exist")  # the other process: it waits until it is said
    processes.say_once("error: another one")
    assert capsys.readouterr().err.splitlines() == ["error: fold 9 does not exist", "error: another one"]


def test_a_lone_process_says_everything(processes, capsys):
    processes.say_once("error: a")
    processes.say_once("error: a")
    assert capsys.readouterr().err.splitlines() == ["error: a", "error: a"]


def test_a_process_whose_store_is_gone_speaks_for_itself(processes, monkeypatch, capsys):
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "9")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "ASIDE", processes.timedelta(seconds=1))
    processes.say_once("error: a")
    assert capsys.readouterr().err.splitlines()[-1] == "error: a"


def test_the_configuration_of_several_processes_asks_for_torchrun(processes):
    with pytest.raises(ValueError, match="is for several processes: start it by torchrun --nproc_per_node=N"):
        processes.join_processes(device="cpu", timeout=60)


@pytest.mark.parametrize("timeout", [0, -1, "60", True])
def test_a_timeout_that_is_none_is_refused(processes, timeout):
    with pytest.raises(ValueError, match="--process_timeout must be a number of seconds greater than 0, got"):
        processes.join_processes(device="cpu", timeout=timeout)


def test_more_processes_than_gpus_are_refused(processes, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="there is no cuda:2, this machine has 2 GPUs: lower --nproc_per_node"):
        processes.join_processes(device="cuda:2", timeout=60)


def test_errors_that_say_that_a_process_is_gone_are_known_in_several_processes_alone(processes, monkeypatch):
    gone = RuntimeError("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:40166")
    assert not processes.is_lost(gone)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert processes.is_lost(gone)
    assert processes.is_lost(dist.DistBackendError("NCCL communicator was aborted on rank 1"))
    assert not processes.is_lost(RuntimeError("CUDA out of memory"))
    assert not processes.is_lost(ValueError("Connection closed by peer"))
