"""What the processes of a distributed training do together; in a lone process each function is the plain answer."""

import inspect
import os
from typing import Any, TypeVar

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Value = TypeVar("Value")

# torch 2.13 gave the option of DistributedDataParallel another name; the old one goes when torch 2.13 is the oldest.
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_BUFFERS_OPTION = "forward_sync_buffers" if _NEW_NAME else "broadcast_buffers"


def rank_seed(seed: int, rank: int | None = None) -> int:
    """The seed of a process for augmentation and order: `seed` itself in the first, another in each further one.

    It depends on the seed and the rank alone, so that a training can be repeated with as many processes.
    """
    place = idist.get_rank() if rank is None else rank
    return seed if place == 0 else int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def process_device() -> torch.device:
    """The GPU of this process, by its number on its machine, or the CPU where there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # set by torchrun; asked before they meet


def shared_network(network: nn.Module) -> nn.Module:
    """The network wrapped so that its gradients are those of all processes, starting from the weights of the first.

    In a lone process it is the network itself. Buffers (running statistics) are left to `average_buffers`.
    """
    if idist.get_world_size() == 1:
        return network
    device = next(network.parameters()).device
    options: dict[str, Any] = {_BUFFERS_OPTION: False}
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None, **options)


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Give each floating-point buffer the mean of all processes, so that all validate and save the same network."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if idist.get_world_size() == 1 or not buffers:
        return
    flat = summed(torch.cat([buffer.flatten().double() for buffer in buffers])) / idist.get_world_size()
    for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, the same in each; a new tensor."""
    if idist.get_world_size() == 1:
        return values
    total = idist.all_reduce(values.clone())
    assert isinstance(total, Tensor)
    return total


def gathered(value: Value) -> list[Value]:
    """Each process' value, by rank, in every process; any object that can be pickled, such as random states."""
    if idist.get_world_size() == 1:
        return [value]
    found: list[Any] = [None] * idist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def from_first(value: Value) -> Value:
    """The first process' value, in every process: decisions are taken there."""
    if idist.get_world_size() == 1:
        return value
    found = [value]
    dist.broadcast_object_list(found, src=0)
    return found[0]
