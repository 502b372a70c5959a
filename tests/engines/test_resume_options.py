"""Checkpoints of trainings whose network is compiled, joined, in another order of memory, or stepped in parts."""

import pytest
import torch
from ignite.engine import Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cvm_monai.engines.checkpoints import CheckpointFolder
from cvm_monai.supervision.moving_average import MovingAverage, bare

from .test_resume import Training, differences, seeds_as_they_were  # noqa: F401  the last is a fixture

OPTIONS = {
    "micro-batches": {"micro": 1},
    "channels_last": {"options": {"channels_last": True}},
    "compile": {"options": {"compile": True, "backend": "eager"}},
    "sync_batchnorm in a lone process": {"options": {"sync_batchnorm": True}},
    "all": {"micro": 1, "options": {"channels_last": True, "compile": True, "backend": "eager"}},
}


def saved_names(training: Training) -> set[str]:
    folder = CheckpointFolder(training.folder / "checkpoints")
    state = folder.load(folder.manifest().checkpoints[-1])
    return set(state["parts"]["network"]) | set(state["parts"]["average"]["average"])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, id=name, marks=pytest.mark.ci if name == "compile" else ())
        for name, options in OPTIONS.items()
    ],
)
def test_a_training_goes_on_to_the_bit_and_its_checkpoint_names_the_plain_weights(tmp_path, options):
    straight = Training(tmp_path / "straight", **options).run()
    Training(tmp_path / "killed", **options).killed_in(2)
    resumed = Training(tmp_path / "killed", **options).run()
    assert differences(straight.result(), resumed.result()) == []
    assert saved_names(resumed) == set(Training(tmp_path / "plain").network.state_dict())


def test_the_order_of_memory_comes_back(tmp_path):
    options = {"options": {"channels_last": True}}
    Training(tmp_path / "run", **options).killed_in(2)
    resumed = Training(tmp_path / "run", **options)
    resumed.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.terminate())
    resumed.run()
    kernels = {id(weight): weight for weight in resumed.network.parameters() if weight.dim() == 4}
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels.values())
    moments = [resumed.optimizer.state[weight]["exp_avg"] for weight in kernels.values()]
    assert moments
    assert all(moment.is_contiguous(memory_format=torch.channels_last) for moment in moments)


class Wrapped(DistributedDataParallel):
    """Its type without a process group."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module


@pytest.mark.parametrize("order", ["compiled in wrapped", "wrapped in compiled"])
def test_a_network_is_found_below_its_wrappers_in_any_order(order):
    network = nn.Conv2d(1, 1, 1)
    compiled = torch.compile(network, backend="eager")
    assert bare(compiled) is bare(network) is network
    outer = Wrapped(compiled) if order == "compiled in wrapped" else torch.compile(Wrapped(network), backend="eager")
    assert bare(outer) is network
    average = MovingAverage(outer, buffers="copy")
    assert set(average.state_dict()) == {"weight", "bias"}
    with torch.no_grad():
        network.weight.fill_(3.0)
    average.update(outer, decay=0.0)
    assert average.network.weight.item() == 3.0
