"""Moving averages of a network's weights, as a teacher or for validation in place of the last weights."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cvm_monai.errors import CvmError

BuffersRule = Literal["copy", "average"]
"""Rule for the floating-point buffers (running statistics); counters are always copied."""


def bare(network: nn.Module) -> nn.Module:
    """Remove the wrappers of distributed training and of `torch.compile` from a network, in any order."""
    while True:
        if isinstance(network, DistributedDataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # of torch._dynamo, slow to import
            network = inner
        else:
            return network


class MovingAverage:
    """A network whose weights average another's: a <- decay a + (1 - decay) w after each step.

    Args:
        network: the one to average; a copy of it, without gradients, starts from its weights.
        buffers: `copy` copies its buffers, `average` averages the floating-point ones like the weights.

    Raises:
        CvmError: an unknown rule for the buffers.
    """

    def __init__(self, network: nn.Module, *, buffers: BuffersRule) -> None:
        check_buffers_rule(buffers)
        self.network = copy.deepcopy(bare(network)).requires_grad_(False)
        self.buffers = buffers

    @torch.no_grad()
    def update(self, network: nn.Module, *, decay: float) -> None:
        """Update after one step; `decay` 0 copies the weights, 1 keeps the average unchanged."""
        followed = bare(network)
        for mean, weight in zip(self.network.parameters(), followed.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        for average, value in zip(self.network.buffers(), followed.buffers(), strict=True):
            if self.buffers == "average" and average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the average's weights and buffers."""
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.network.load_state_dict(state)


def check_buffers_rule(rule: str) -> None:
    """Raise CvmError for an unknown rule."""
    if rule not in get_args(BuffersRule):
        raise CvmError(f"buffers must be one of {get_args(BuffersRule)}, got {rule!r}")
