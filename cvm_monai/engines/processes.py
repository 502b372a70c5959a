"""What the processes of one training do together: values shared, steps weighed, one output folder held."""

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


class SharedEvaluator(SupervisedEvaluator):
    """`SupervisedEvaluator` for a shard of the cases, as of `ShardSampler`.

    MONAI's skips the run of a process that has no case; the others would wait for its part of the metrics forever. This
    one makes an iteration without images, so that all events happen in every process.

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
"""The entry for terms that `Supervision.counts` does not name: they are means over images."""


@dataclass(frozen=True)
class StepWeight:
    """The weight of one part of a step in the whole, by term.

    A term that is a mean over n pixels of the part, times n / N, with N the pixels of all parts, adds up to the mean
    over the whole.
    """

    weights: Mapping[str, float]

    def of(self, term: str) -> float:
        """The weight of a term."""
        return self.weights.get(term, self.weights[IMAGES])


def step_weights(supervision: Supervision, parts: Sequence[Batch]) -> list[StepWeight]:
    """The weight of each part of a step, among the parts of all processes.

    A whole step in one part and one process has the weight 1 exactly. Every process must have as many parts.
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
"""Seconds: a loader's worker sees after 5 that its training was killed, and holds the folder until then."""


@contextmanager
def sole_writer(output_dir: str | Path, *, wait: float = WAIT) -> Iterator[None]:
    """Hold the output folder while a training writes into it; every process of the training must call it.

    The first process holds it. Where the file system has no locks a warning says that nothing is guarded.

    Args:
        output_dir: made where it is missing.
        wait: seconds for which to try again; raising it bears with loader workers that outlive their training for
            longer; 0 to 60.

    Raises:
        CvmError: another training holds it, or it cannot be written; in every process.
    """
    with ExitStack() as stack:
        refusal = from_first(_hold(stack, Path(output_dir), wait=wait) if idist.get_rank() == 0 else None)
        if refusal is not None:
            raise CvmError(refusal)
        yield


def _hold(stack: ExitStack, folder: Path, *, wait: float) -> str | None:
    """Hold it until the stack is closed; why not, where that cannot be."""
    try:
        holder = stack.enter_context(lock_folder(folder, option="--output_dir", wait=wait))
    except NoLocksError:
        logger.warning("%s is on a file system without locks: see to it that one training alone writes there", folder)
        return None
    except ValueError as error:
        return str(error)
    if holder is None:
        return None
    return f"another training writes into {folder} ({holder}): wait for its end, or choose another --output_dir"
