"""Data sets that hold decoded images in a bounded part of the memory, and read the rest again from a folder."""

import atexit
import errno
import os
import shutil
import socket
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandomizableTrait, Transform, convert_to_contiguous

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing
from cvm_monai.free_memory import free_memory, gib

SHARE = 0.5
"""Part of the free memory that decoded images take if nothing else is asked for."""
SMALL = 2**20
"""Bytes beside its arrays that a file of an item may take."""
ARRAYS = "arrays"
"""Key, in a file of the folder, of the names of the entries that are NumPy arrays."""


class CacheBudget:
    """Memory for decoded images, shared by the data sets of a process, and the folder of those that do not fit.

    Args:
        size: GiB, 0 to hold none; None: half of the memory that is free now, divided by the processes of this machine.
        folder: where images that do not fit are kept decoded; each process makes a folder of its own in it (those that
            torchrun started share one) and removes it at its end. None: they are decoded again each time.
    """

    def __init__(self, size: float | None = None, *, folder: str | Path | None = None) -> None:
        self.asked, self.limit, self.used, self.sets = size, cache_limit(size, free=free_memory()), 0, 0
        self.folder = None if folder is None else Path(folder) / _process_name()
        self._made = False

    def take(self, size: int) -> bool:
        """Take so many bytes if they are left."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def make_folder(self, size: float) -> Path | None:
        """Make the folder for so many bytes, and remove those that killed processes left beside it.

        Raises:
            CvmError: the disk has less room.
        """
        if self.folder is None or self._made:
            return self.folder
        above = self.folder.parent
        for left in above.glob(f"{socket.gethostname()}-*"):
            if not _runs(left.name.rpartition("-")[2]):
                shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = True
        atexit.register(_remove, self.folder, os.getpid())
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise CvmError(
                f"the images that --cache does not hold take {gib(size)} of disk in {above}, where {gib(free)} are "
                "free: raise --cache, or put --output_dir on a larger disk"
            )
        return self.folder


class CaseCache(CacheDataset):
    """A `CacheDataset` of MONAI that holds as many items as a budget allows and finds the others in a folder.

    Args:
        data, options: as `CacheDataset`.
        transform: a `Compose`.
        budget: None holds all that `options` ask for.
        held: number of its first transforms whose output is held, so that images stay bytes; None: all up to the first
            random one, as MONAI does.

    Raises:
        TypeError: a transform that is not a `Compose`.
        CvmError: a budget, other than 0, below the first image, or a disk that is too small for the rest.
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        transform: Compose,
        *,
        budget: CacheBudget | None = None,
        held: int | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(transform, Compose):
            raise TypeError(f"transform must be a Compose, got {type(transform).__name__}")
        self.budget, self.held, self.number = budget, held, 0
        self.folder: Path | None = None
        if budget is not None:
            budget.sets += 1
            self.number = budget.sets
        super().__init__(data=data, transform=transform, **options)

    def item(self, index: int) -> Any:
        """A copy of an item after the transforms that are held, from memory, from the folder, or made anew.

        Raises:
            IndexError: there is no such item.
            CvmError: the disk is full.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"case {index} of {len(self)}")
        position = index % len(self)
        slot = self._slot(position)
        if slot is None:
            return self._again(position)
        if self._cache[slot] is None:
            found = self._load_cache_item(position)
            if self.budget is not None and not self.budget.take(bytes_of(found)):
                return found
            self._cache[slot] = found
        return deepcopy(self._cache[slot]) if self.copy_cache else self._cache[slot]

    def _slot(self, position: int) -> int | None:
        """Place of an item in the cache; None if it has none."""
        if not self.hash_as_key:
            return position if position < self.cache_num else None
        key = self.hash_func(self.data[position])
        return self._hash_keys.index(key) if key in self._hash_keys else None

    def _cut(self) -> int | None:
        """Number of the transforms whose output is held; None: all."""
        if self.held is not None:
            return self.held
        found: int | None = self.transform.get_index_of_first(
            lambda step: isinstance(step, RandomizableTrait) or not isinstance(step, Transform)
        )
        return found

    def _transform(self, index: int) -> Any:
        item, cut = self.item(index), self._cut()
        return item if cut is None else self.transform(item, start=cut)

    def _load_cache_item(self, idx: int) -> Any:
        item = self.transform(self.data[idx], end=self._cut(), threading=True)
        return convert_to_contiguous(item, memory_format=torch.contiguous_format) if self.as_contiguous else item

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list:
        if self.budget is None:
            found: list = super()._fill_cache(indices)
            return found
        wanted: Sequence[int] = range(self.cache_num) if indices is None else indices
        held: list = []
        for index in wanted:
            item = self._load_cache_item(index)
            size = bytes_of(item)
            if not self.budget.take(size):
                self._check(size)
                self.folder = self.budget.make_folder(float(size) * (len(self.data) - len(held)))
                break
            held.append(item)
        self.cache_num = len(held)
        self._hash_keys = self._hash_keys[: len(held)]
        return held

    def _check(self, size: int) -> None:
        """Refuse a budget that holds not one image."""
        budget = self.budget
        if budget is not None and budget.asked and size > budget.limit:
            raise CvmError(
                f"--cache {budget.asked:g} GiB cannot hold a single image; the first takes {size / 2**20:.1f} MiB: "
                "raise it, or pass 0 to hold none"
            )

    def _again(self, position: int) -> Any:
        """Read an item that is not held from the folder, or make it and put it there."""
        if self.folder is None:
            return self._load_cache_item(position)
        path = self.folder / f"{self.number}-{position:07d}.pt"
        try:
            return read_item(path)
        except FileNotFoundError:
            item = self._load_cache_item(position)
            write_item(path, item)
            return item


def cache_limit(size: float | None, *, free: int | None) -> float:
    """Bytes for decoded images: those of `size` GiB, or half of the free memory; infinite where it is not known."""
    if size is not None:
        return size * 2**30
    return float("inf") if free is None else SHARE * free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def bytes_of(item: Any) -> int:
    """Bytes of all arrays in an item."""
    if isinstance(item, torch.Tensor | np.ndarray):
        return int(item.nbytes)
    if isinstance(item, Mapping):
        return sum(map(bytes_of, item.values()))
    return sum(map(bytes_of, item)) if isinstance(item, list | tuple) else 0


def write_item(path: Path, item: Mapping[str, Any]) -> None:
    """Write an item of tensors, arrays and plain values, replacing the file atomically.

    Raises:
        CvmError: the file cannot be written: the disk is full, or for another reason of the system.
        RuntimeError: torch cannot write the item for a reason other than a full disk.
    """
    arrays = [name for name, value in item.items() if isinstance(value, np.ndarray)]
    plain = {name: torch.from_numpy(value) if name in arrays else value for name, value in item.items()}
    try:
        with replacing(path) as aside:
            torch.save({ARRAYS: arrays, "item": plain}, aside)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError):
            reason = "no space left" if error.errno == errno.ENOSPC else error.strerror
        elif shutil.disk_usage(path.parent).free < bytes_of(item) + SMALL:  # torch's writer does not say why it failed
            reason = "no space left"
        else:
            raise
        raise CvmError(f"{path.parent} cannot keep decoded images ({reason}): free disk, or raise --cache") from None


def read_item(path: Path) -> dict[str, Any]:
    """Read what `write_item` wrote.

    Raises:
        FileNotFoundError: it was not written yet.
    """
    found = torch.load(path, weights_only=True)
    return {name: value.numpy() if name in found[ARRAYS] else value for name, value in found["item"].items()}


def _process_name() -> str:
    """Name the folder of this process, or of all that one torchrun started on this machine."""
    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    return f"{socket.gethostname()}-{os.getppid() if together else os.getpid()}"


def _runs(process: str) -> bool:
    """Whether a process of this machine runs; True for what is not a number."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


def _remove(folder: Path, process: int) -> None:
    """Remove the folder at the end of the process that made it, and not of those that it forked."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process uses it
            folder.parent.rmdir()
