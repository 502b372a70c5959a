"""The cases of an epoch: transforms seeded by epoch and case, the batches of a step, the parts of several processes."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, Dataset
from monai.data.utils import list_data_collate
from monai.transforms import Compose
from torch.utils.data import Sampler

from cvm_monai.errors import CvmError


class SeededCacheDataset(CacheDataset):
    """MONAI's `CacheDataset`, whose random transforms are seeded anew for each item from (seed, epoch, index).

    What an item becomes in an epoch does then not depend on the loader's workers, on the items before it, or on
    whether the training was interrupted.

    Args:
        data: as `CacheDataset`.
        transform: a `Compose`; its random transforms draw from their own `R`, as MONAI's and this package's do.
        seed: another seed draws otherwise.
        options: of `CacheDataset`.

    Raises:
        TypeError: a transform that is no `Compose`.
    """

    def __init__(
        self, data: Sequence[Mapping[Hashable, Any]], *, transform: Compose, seed: int, **options: Any
    ) -> None:
        if not isinstance(transform, Compose):
            raise TypeError(f"transform must be a Compose, got {type(transform).__name__}")
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it too
        super().__init__(data=data, transform=transform, **options)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, from 1, the next items are for; the trainer does so as each begins."""
        self._epoch.fill_(epoch)

    def prepared(self, index: int) -> Any:
        """A copy of an item after its deterministic transforms alone, from the cache where it is cached."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"case {index} of {len(self)}")
        position = index % len(self)
        if self.hash_as_key or position >= self.cache_num:
            return self._load_cache_item(position)
        if self._cache[position] is None:
            self._cache[position] = self._load_cache_item(position)
        return deepcopy(self._cache[position])

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
    """Collates a list of cases: into one batch where they are `size` at most, else into a list of batches of `size`.

    The last batch may be smaller. Images must agree in shape within a batch only, so that whole images of any sizes can
    be accumulated one by one.

    Args:
        size: cases of a batch; raising it takes more memory.

    Raises:
        CvmError: a size below 1.
    """

    def __init__(self, *, size: int) -> None:
        if type(size) is not int or size < 1:
            raise CvmError(f"size must be a whole number of at least 1, got {size!r}")
        self.size = size

    def __call__(self, cases: Sequence[Any]) -> Any:
        """A batch, or a list of batches."""
        batches = [list_data_collate(cases[begin : begin + self.size]) for begin in range(0, len(cases), self.size)]
        return batches[0] if len(batches) == 1 else batches


def shard_of(count: int, *, rank: int, world: int) -> range:
    """The part of 0, ..., count - 1 that the process `rank` of `world` takes.

    The parts follow each other without gap or overlap; the first ones are larger by 1 where the count does not divide,
    and the last ones empty where there are fewer things than processes.

    Raises:
        CvmError: a negative count, or a rank that is none of 0 to world - 1.
    """
    if count < 0 or not 0 <= rank < world:
        raise CvmError(f"there is no shard {rank} of {world} of {count} things: rank must lie in 0 to world - 1")
    size, larger = divmod(count, world)
    begin = rank * size + min(rank, larger)
    return range(begin, begin + size + (rank < larger))


class ShardSampler(Sampler[int]):
    """The indices of one process' shard of a data set, in order and each once: for a validation.

    A `DistributedSampler` pads, so that some cases would count twice, or refuses fewer cases than processes.

    Args:
        dataset: what is cut into shards.
        rank, world: this process, and how many there are; by default as Ignite's distributed module says.
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
