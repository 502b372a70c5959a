"""Distributed training: collective operations, weights of a step's parts, and the lock on the output folder."""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cvm_monai.errors import CvmError
from cvm_monai.files import NoLocksError, lock_folder
from cvm_monai.supervision.base import Batch, Supervision

Value = TypeVar("Value")

# torch 2.13 gave the option of DistributedDataParallel another name; the old one goes when torch 2.13 is the oldest.
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_BUFFERS_OPTION = "forward_sync_buffers" if _NEW_NAME else "broadcast_buffers"


def rank_seed(seed: int, rank: int | None = None) -> int:
    """Seed of a process for augmentation and shuffling: `seed` itself for rank 0, another for each further rank.

    It depends on the seed and the rank alone, so that a training with the same number of processes is repeatable.
    """
    place = idist.get_rank() if rank is None else rank
    return seed if place == 0 else int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def process_device() -> torch.device:
    """The GPU of this process, by its local rank, or the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # set by torchrun; before init


def shared_network(network: nn.Module) -> nn.Module:
    """Wrap a network in DistributedDataParallel: gradients are averaged, and all start from the weights of rank 0.

    A single process gets the network itself. Buffers (running statistics) are left to `average_buffers`.
    """
    if idist.get_world_size() == 1:
        return network
    device = next(network.parameters()).device
    options: dict[str, Any] = {_BUFFERS_OPTION: False}
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None, **options)


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Average each floating-point buffer over all processes, so that all validate and save the same network."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if idist.get_world_size() == 1 or not buffers:
        return
    flat = summed(torch.cat([buffer.flatten().double() for buffer in buffers])) / idist.get_world_size()
    for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def summed(values: Tensor) -> Tensor:
    """Sum over all processes, the same in each; returns a new tensor."""
    if idist.get_world_size() == 1:
        return values
    total = idist.all_reduce(values.clone())
    assert isinstance(total, Tensor)
    return total


def gathered(value: Value) -> list[Value]:
    """Gather each process's value, by rank, in every process; the value may be any object that can be pickled."""
    if idist.get_world_size() == 1:
        return [value]
    found: list[Any] = [None] * idist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def from_first(value: Value) -> Value:
    """Broadcast the value of rank 0, which takes the decisions, to every process."""
    if idist.get_world_size() == 1:
        return value
    found = [value]
    dist.broadcast_object_list(found, src=0)
    return found[0]


class SharedEvaluator(SupervisedEvaluator):
    """`SupervisedEvaluator` for a shard of the cases, see `ShardSampler`.

    MONAI's evaluator skips the run in a process without cases, and the others then wait forever for its part of the
    metrics. This one runs one iteration without images, so that all events happen in every process.

    Args:
        kwargs: as `SupervisedEvaluator`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.state.epoch_length == 0:
            self.data_loader, self.state.epoch_length = [None], 1

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        if batchdata is not None:
            return super()._iteration(engine, batchdata)
        engine.state.batch, engine.state.output = [], []
        return engine.state.output


IMAGES = ""
"""Key of the image count; terms that `Supervision.counts` does not name are means over images."""


@dataclass(frozen=True)
class StepWeight:
    """Weight of one part of a step, by term of the loss.

    A term that is a mean over n pixels of the part has the weight n / N, with N the pixels of all parts; the weighted
    terms then add up to the mean over the whole step.
    """

    weights: Mapping[str, float]

    def of(self, term: str) -> float:
        """The weight of a term."""
        return self.weights.get(term, self.weights[IMAGES])


def step_weights(supervision: Supervision, parts: Sequence[Batch]) -> list[StepWeight]:
    """Compute the weight of each part of a step, among the parts of all processes.

    A step with one part in one process has the weight 1 exactly. Every process must have the same number of parts.
    """
    if len(parts) == 1 and idist.get_world_size() == 1:
        return [StepWeight({IMAGES: 1.0})]
    counts: list[dict[str, Tensor | int]] = [{IMAGES: len(part["image"]), **supervision.counts(part)} for part in parts]
    table = torch.stack([_row(count) for count in counts])
    weights = (table / summed(table.sum(dim=0)).clamp(min=1)).tolist()
    return [StepWeight(dict(zip(count, row, strict=True))) for count, row in zip(counts, weights, strict=True)]


def _row(count: Mapping[str, Tensor | int]) -> Tensor:
    return torch.stack([torch.as_tensor(value).double().cpu() for value in count.values()])


logger = logging.getLogger(__name__)

WAIT = 15.0
"""Seconds: a loader worker notices after 5 s that its training was killed, and holds the lock until then."""


@contextmanager
def sole_writer(output_dir: str | Path, *, wait: float = WAIT) -> Iterator[None]:
    """Lock the output folder while a training writes into it; every process of the training must call it.

    Rank 0 holds the lock. If the file system has no locks, a warning says that the folder is not protected.

    Args:
        output_dir: created if it is missing.
        wait: seconds for which to retry; raising it tolerates loader workers that outlive their training for longer;
            0 to 60.

    Raises:
        CvmError: another training holds the lock, or the folder cannot be written; raised in every process.
    """
    with ExitStack() as stack:
        refusal = from_first(_hold(stack, Path(output_dir), wait=wait) if idist.get_rank() == 0 else None)
        if refusal is not None:
            raise CvmError(refusal)
        yield


def _hold(stack: ExitStack, folder: Path, *, wait: float) -> str | None:
    """Acquire the lock until the stack is closed; returns the reason if that fails."""
    try:
        holder = stack.enter_context(lock_folder(folder, option="--output_dir", wait=wait))
    except NoLocksError:
        logger.warning("%s is on a file system without locks: make sure that only one training writes there", folder)
        return None
    except ValueError as error:
        return str(error)
    if holder is None:
        return None
    return f"another training writes into {folder} ({holder}): wait for its end, or choose another --output_dir"
