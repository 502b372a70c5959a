"""Running statistics as plain averages over training batches."""

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from cvm_monai.engines import FreshBatchNorm


def batches(count=6) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"image": i + torch.rand(2, 3, 4, 4, generator=generator)} for i in range(count)]


def after_an_epoch(network: nn.Module, dataloader, **options) -> None:
    trainer = Engine(lambda *_: None)
    FreshBatchNorm(network=network, dataloader=dataloader, device="cpu", **options).attach(trainer)
    trainer.run([0], max_epochs=1)


@pytest.mark.parametrize("limit, used", [(4, 4), (100, 6)])
def test_statistics_are_the_mean_over_the_first_batches(limit, used):
    network = nn.BatchNorm2d(3, momentum=0.1)
    network.running_mean.fill_(99.0)
    after_an_epoch(network, batches(), batches=limit)
    images = [batch["image"].transpose(0, 1).flatten(1) for batch in batches()[:used]]
    torch.testing.assert_close(network.running_mean, torch.stack([image.mean(1) for image in images]).mean(0))
    torch.testing.assert_close(network.running_var, torch.stack([image.var(1) for image in images]).mean(0))
    assert network.momentum == 0.1


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training):
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train(training)
    before = {name: value.clone() for name, value in network.named_parameters()}
    after_an_epoch(network, batches())
    assert network.training is training
    for name, value in network.named_parameters():
        torch.testing.assert_close(value, before[name])
        assert value.grad is None


def test_a_network_without_batch_normalisation_asks_for_no_batch():
    def refuse():
        raise AssertionError("a batch was asked for")
        yield

    after_an_epoch(nn.Conv2d(3, 2, 1), refuse())
