"""A data set whose random transforms depend on the seed, the epoch and the case alone."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose


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

    def _transform(self, index: int) -> Any:
        key = (self.seed % 2**32, int(self._epoch), index % len(self))
        self.transform.set_random_state(seed=int(np.random.SeedSequence(key).generate_state(1)[0]))
        return super()._transform(index)
