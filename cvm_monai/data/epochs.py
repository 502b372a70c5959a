"""Datasets and samplers of an epoch: transforms seeded by epoch and case, micro-batches, shards of processes."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.data.utils import list_data_collate
from monai.transforms import Compose
from torch.utils.data import Sampler

from cvm_monai.data.cache import CaseCache
from cvm_monai.errors import CvmError


class SeededCacheDataset(CaseCache):
    """A `CaseCache` whose random transforms are reseeded for each item from (seed, epoch, index).

    So an item's augmentation in an epoch does not depend on the loader's workers, on the items before it, or on
    whether the training was resumed.

    Args:
        data: as `CaseCache`.
        transform: a `Compose`; its random transforms draw from their own `R`, as MONAI's and this package's do.
        seed: another seed gives other random numbers.
        options: options of `CaseCache`.

    Raises:
        TypeError, CvmError: as `CaseCache`.
    """

    def __init__(
        self, data: Sequence[Mapping[Hashable, Any]], *, transform: Compose, seed: int, **options: Any
    ) -> None:
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it too
        super().__init__(data=data, transform=transform, **options)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 1, of the next items; the trainer calls this at the start of each epoch."""
        self._epoch.fill_(epoch)

    def prepared(self, index: int) -> Any:
        """A copy of an item after its deterministic transforms alone, from the cache where it is cached."""
        return self.item(index)

    def _transform(self, index: int) -> Any:
        key = (self.seed % 2**32, int(self._epoch), index % len(self))
        self.transform.set_random_state(seed=int(np.random.SeedSequence(key).generate_state(1)[0]))
        return super()._transform(index)


class PreparedCases(Dataset):
    """The cases that a data set trains on without its random transforms, from that data set's own cache.

    Each image is decoded once and held once, as bytes; what follows is computed whenever a case is asked for.

    Args:
        dataset: that trains; its deterministic transforms are shared.
        transform: what follows them here.
    """

    def __init__(self, dataset: SeededCacheDataset, *, transform: Callable[[Any], Any]) -> None:
        super().__init__(data=dataset.data, transform=transform)
        self.dataset = dataset

    def _transform(self, index: int) -> Any:
        return self.transform(self.dataset.prepared(index))


class MicroBatchCollate:
    """Collate a list of cases: into one batch if there are at most `size`, else into a list of batches of `size`.

    The last batch may be smaller. Only images of one batch must have the same shape, so that gradients of whole images
    of any size can be accumulated one by one.

    Args:
        size: cases in a batch; raising it takes more memory.

    Raises:
        CvmError: a size below 1.
    """

    def __init__(self, *, size: int) -> None:
        if type(size) is not int or size < 1:
            raise CvmError(f"size must be a whole number of at least 1, got {size!r}")
        self.size = size

    def __call__(self, cases: Sequence[Any]) -> Any:
        """Return a batch, or a list of batches."""
        batches = [list_data_collate(cases[begin : begin + self.size]) for begin in range(0, len(cases), self.size)]
        return batches[0] if len(batches) == 1 else batches


def shard_of(count: int, *, rank: int, world: int) -> range:
    """Return the shard of 0, ..., count - 1 of the process `rank` of `world`.

    The shards are consecutive ranges; the first ones are larger by 1 if the count is not divisible, and the last ones
    empty if there are fewer items than processes.

    Raises:
        CvmError: a negative count, or a rank outside 0 to world - 1.
    """
    if count < 0 or not 0 <= rank < world:
        raise CvmError(f"there is no shard {rank} of {world} of {count} items: rank must lie in 0 to world - 1")
    size, larger = divmod(count, world)
    begin = rank * size + min(rank, larger)
    return range(begin, begin + size + (rank < larger))


class ShardSampler(Sampler[int]):
    """Samples the indices of one process's shard of a data set, in order and each once, for validation.

    A `DistributedSampler` pads, so that some cases would count twice, or refuses fewer cases than processes.

    Args:
        dataset: the data set to divide.
        rank, world: index and number of processes; by default those of Ignite's distributed module.
    """

    def __init__(self, dataset: Sized, *, rank: int | None = None, world: int | None = None) -> None:
        import ignite.distributed as idist

        self._shard = shard_of(
            len(dataset),
            rank=idist.get_rank() if rank is None else rank,
            world=idist.get_world_size() if world is None else world,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._shard)

    def __len__(self) -> int:
        return len(self._shard)
