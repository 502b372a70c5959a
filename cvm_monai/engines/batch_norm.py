"""Batch normalisation's running statistics, computed afresh before each validation."""

import itertools
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import update_bn


class FreshBatchNorm:
    """At the end of each epoch replaces the running statistics by plain averages over training batches.

    With a batch of one or two images the exponential averages follow the last few images, and a network in evaluation
    mode, which validation, pseudo-labels and inference use, is then far from the one that was trained.
    (Y. Wu, J. Johnson: Rethinking "Batch" in BatchNorm, 2021.)

    Args:
        network: its batch normalisation layers are updated; without any nothing happens.
        dataloader: training batches with an `image`, augmented as in training.
        device: of the network.
        batches: at most so many; raising it makes the statistics surer and an epoch longer; 4 to 100.
    """

    def __init__(self, *, network: nn.Module, dataloader: Any, device: torch.device | str, batches: int = 16) -> None:
        self.network, self.dataloader, self.batches = network, dataloader, batches
        self.device = torch.device(device)

    def attach(self, engine: Engine) -> None:
        """Must stand before the validation."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Pass the batches through the network without gradients."""
        del engine
        images = (batch["image"] for batch in itertools.islice(self.dataloader, self.batches))
        update_bn(images, self.network, device=self.device)
