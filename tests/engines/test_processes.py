"""Two processes over Gloo compute what one computes: training, renewal, validation, decisions, errors.

Those with two processes import MONAI twice more, so that they are left to CI.
"""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cvm_monai.engines import process_device, rank_seed, shared_network
from cvm_monai.engines.processes import from_first, gathered

SCRIPT = Path(__file__).with_name("two_processes.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds."""
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.everything(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes finds, by rank."""
    folder = tmp_path_factory.mktemp("together")
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)],
            env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.ci
@pytest.mark.parametrize("training", ["cvm", "full", "peng", "accumulated"])
def test_two_processes_train_as_one_with_twice_the_batch(alone, together, training):
    expected = alone["trainings"][training]
    for found in (results["trainings"][training] for results in together):
        for name, value in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=0, atol=1e-5)
        for before, after in zip(expected["outputs"], found["outputs"], strict=True):
            assert after == pytest.approx(before, abs=1e-5)
    moved = [step["loss"] for step in expected["outputs"]]
    assert abs(moved[0] - moved[-1]) > 1e-3


@pytest.mark.ci
def test_running_statistics_are_the_same_in_both_processes_and_the_mean_of_both(alone, together):
    one, two = (results["statistics"] for results in together)
    changed = 0
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=0)
        if name.endswith("running_mean"):
            changed += bool(value.abs().max() > 0)
    assert changed > 0
    # the mean of equally many pixels in both processes is that of one process with both batches, at the first layer
    first = next(name for name in one if name.endswith("running_mean"))
    torch.testing.assert_close(one[first], alone["statistics"][first], rtol=0, atol=1e-6)


@pytest.mark.ci
@pytest.mark.parametrize("count", ["renewal of 5", "renewal of 1"])
def test_a_renewal_that_is_shared_out_is_that_of_one_process_and_seen_by_both(alone, together, count):
    expected = alone[count]
    assert len(expected["labels"]) == int(count.removeprefix("renewal of "))
    for results in together:
        found = results[count]
        assert found["facts"][:2] == expected["facts"][:2]
        assert found["facts"][2:] == pytest.approx(expected["facts"][2:])
        for case_id, label in expected["labels"].items():
            assert label is not None
            assert found["labels"][case_id] == pytest.approx(label, abs=1e-6)


@pytest.mark.ci
def test_the_first_process_shows_the_first_images(alone, together):
    assert (
        alone["renewal of 5"]["previews"] == together[0]["renewal of 5"]["previews"] == ["case-0", "case-1", "case-2"]
    )


@pytest.mark.ci
@pytest.mark.parametrize("count", ["validation of 5", "validation of 1"])
def test_each_case_is_validated_once_and_both_processes_know_the_metrics_of_all(alone, together, count):
    for results in together:
        assert results[count]["metrics"] == pytest.approx(alone[count]["metrics"], rel=1e-6)
    seen = [case for results in together for case in results[count]["seen"]]
    assert seen == alone[count]["seen"]


@pytest.mark.ci
def test_a_metric_is_left_out_in_both_processes_where_no_case_has_a_mask(together):
    assert [set(results["validation of 1"]["metrics"]) for results in together] == [{"ce"}, {"ce"}]  # case 0 has none


@pytest.mark.ci
def test_the_first_process_decides(together):
    assert [results["decision"] for results in together] == [1.0, 1.0]


@pytest.mark.ci
def test_a_loss_that_is_not_finite_in_one_process_ends_both_with_one_sentence(alone, together):
    assert "the loss is not finite in epoch 1, step 1 (partial_ce=nan; cases case-2, case-3)" in together[0]["failure"]
    assert together[0]["failure"] == together[1]["failure"]
    assert "cases case-0, case-1, case-2, case-3" in alone["failure"]


def test_the_seed_of_the_first_process_is_the_seed_and_every_other_has_its_own():
    seeds = [rank_seed(7, rank) for rank in range(64)]
    assert seeds[0] == rank_seed(7) == 7
    assert len(set(seeds)) == 64
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seeds[1:] == [rank_seed(7, rank) for rank in range(1, 64)]
    assert set(seeds[1:]).isdisjoint(rank_seed(8, rank) for rank in range(64))


def test_a_lone_process_is_itself():
    network = torch.nn.Linear(1, 1)
    assert shared_network(network) is network
    assert gathered("a") == ["a"]
    assert from_first(3) == 3


def test_a_process_takes_the_gpu_of_its_own_number(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert process_device() == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert process_device() == torch.device("cpu")
