"""Decoded images: how many are held, where the others are, who shares them, and what is said where they do not fit."""

import errno
import os
from collections import namedtuple

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Randomizable, Transform
from torch.utils.data import DataLoader

from cvm_monai.data import cache
from cvm_monai.data.cache import CacheBudget, CaseCache, cache_limit, read_item, write_item
from cvm_monai.data.epochs import PreparedCases, SeededCacheDataset

SIZE = 2**20
"""Bytes of an item: a mebibyte of pixels."""


class Read(Transform):
    """Makes an item's pixels, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self, item):
        self.times += 1
        pixels = torch.full((SIZE,), item["index"], dtype=torch.uint8)
        return {"case_id": str(item["index"]), "pixels": pixels, "points": np.array([], np.int64), "shape": (1, 2)}


class Half(Transform):
    def __call__(self, item):
        return {**item, "pixels": item["pixels"] / 2}


class Add(Randomizable, Transform):
    def __call__(self, item):
        return {**item, "pixels": item["pixels"] + 100}


def mib(count: float) -> float:
    return count / 2**10


def cases(count: int, *, budget, read=None, kind=CaseCache, steps=None, **options):
    """A data set that holds the bytes and halves them when asked."""
    transform = Compose([read or Read(), *((Half(),) if steps is None else steps)])
    data = [{"index": index} for index in range(count)]
    return kind(data, transform=transform, budget=budget, num_workers=1, progress=False, **options)


def values(dataset) -> list[float]:
    return [float(item["pixels"][0]) for item in dataset]


def test_as_many_images_as_the_budget_allows_are_held_as_bytes_and_the_others_are_read_from_the_folder(tmp_path):
    read, budget = Read(), CacheBudget(mib(3), folder=tmp_path / "cache")
    dataset = cases(5, budget=budget, read=read, held=1)
    assert (dataset.cache_num, budget.used) == (3, 3 * SIZE)
    assert {item["pixels"].dtype for item in dataset._cache} == {torch.uint8}
    for _ in range(3):
        assert values(dataset) == [0, 0.5, 1, 1.5, 2]
    assert read.times == 3 + 1 + 2  # the one that did not fit was read to see it
    assert len(list(dataset.folder.glob("*.pt"))) == 2


def test_two_data_sets_share_one_budget_and_keep_their_files_apart(tmp_path):
    budget = CacheBudget(mib(3), folder=tmp_path)
    first = cases(2, budget=budget, held=1)
    second = cases(3, budget=budget, held=1)
    third = cases(2, budget=budget, held=1, steps=())
    assert (first.cache_num, second.cache_num, third.cache_num) == (2, 1, 0)
    assert values(second) == [0, 0.5, 1]
    assert values(third) == [0, 1]


@pytest.mark.parametrize("size", [0, None])
def test_a_training_is_the_same_with_and_without_memory_for_its_images(tmp_path, size):
    budget = CacheBudget(size, folder=tmp_path)
    training = cases(3, budget=budget, kind=SeededCacheDataset, steps=(Add(),), seed=0)
    assert training.cache_num == (0 if size == 0 else 3)
    for _ in range(2):
        assert values(training) == [100, 101, 102]
        assert values(PreparedCases(training, transform=Half())) == [0, 0.5, 1]
    training.prepared(1)["pixels"] += 7
    assert values(training) == [100, 101, 102]


def test_loader_workers_use_the_same_folder(tmp_path):
    dataset = cases(4, budget=CacheBudget(0, folder=tmp_path), held=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert [float(item["pixels"][0]) for item in loader] == [0, 0.5, 1, 1.5]
    assert len(list(dataset.folder.glob("*.pt"))) == 4
    dataset.transform.transforms[0].times = 0
    assert values(dataset) == [0, 0.5, 1, 1.5]
    assert dataset.transform.transforms[0].times == 0


def test_images_that_are_held_when_asked_for_take_from_the_budget_too(tmp_path):
    read, budget = Read(), CacheBudget(mib(2), folder=tmp_path)
    dataset = cases(3, budget=budget, read=read, held=1, runtime_cache=True)
    for _ in range(2):
        assert values(dataset) == [0, 0.5, 1]
    assert (budget.used, read.times) == (2 * SIZE, 2 + 2)


def test_a_budget_below_one_image_is_refused_and_none_at_all_is_not(tmp_path):
    with pytest.raises(ValueError, match=r"--cache 0\.000488281 GiB cannot hold a single image; the first takes 1\.0"):
        cases(2, budget=CacheBudget(mib(0.5), folder=tmp_path), held=1)
    assert cases(2, budget=CacheBudget(0)).cache_num == 0


def test_a_disk_too_small_for_the_rest_is_named_before_anything_is_written(monkeypatch, tmp_path):
    free = namedtuple("usage", "free")(SIZE)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: free)
    with pytest.raises(
        ValueError, match=r"does not hold take 0\.0 GiB of disk in .*cache, where 0\.0 GiB are free: raise"
    ):
        cases(4, budget=CacheBudget(mib(1), folder=tmp_path / "cache"), held=1)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("file write failed")])
def test_a_disk_that_fills_is_one_sentence_and_leaves_no_half_of_a_file(monkeypatch, tmp_path, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(4096))
    with pytest.raises(ValueError, match=r"cannot keep decoded images \(no space left\): free disk, or raise --cache"):
        write_item(tmp_path / "a.pt", {"x": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_room_is_not_called_full(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.EACCES, "Permission denied") if denied else RuntimeError("a tensor that cannot be written")

    monkeypatch.setattr(torch, "save", fail)
    denied = True
    with pytest.raises(ValueError, match=r"cannot keep decoded images \(Permission denied\): free disk"):
        write_item(tmp_path / "a.pt", {"x": torch.ones(2)})
    denied = False
    with pytest.raises(RuntimeError, match=r"^a tensor that cannot be written$"):
        write_item(tmp_path / "a.pt", {"x": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_an_item_comes_back_with_its_types(tmp_path):
    item = {"case_id": "a", "image": torch.ones(2, dtype=torch.uint8), "points": np.array([[1, 2]]), "shape": (3, 4)}
    write_item(tmp_path / "a.pt", item)
    found = read_item(tmp_path / "a.pt")
    assert (found["case_id"], found["shape"]) == ("a", (3, 4))
    assert (type(found["points"]), found["points"].dtype) == (np.ndarray, np.int64)
    torch.testing.assert_close(found["image"], item["image"])


def test_folders_of_killed_processes_are_removed_and_the_own_one_at_the_end(tmp_path):
    budget = CacheBudget(0, folder=tmp_path / "cache")
    dead = budget.folder.with_name(budget.folder.name.replace(str(os.getpid()), str(2**22 + 1)))
    dead.mkdir(parents=True)
    dataset = cases(1, budget=budget)
    assert values(dataset) == [0]
    assert not dead.exists()
    cache._remove(budget.folder, os.getpid() + 1)
    assert budget.folder.is_dir()
    cache._remove(budget.folder, os.getpid())
    assert not (tmp_path / "cache").exists()


def test_the_default_is_half_of_what_is_free_for_each_process(monkeypatch):
    assert cache_limit(None, free=2**30) == 2**29
    assert cache_limit(0.25, free=2**20) == 2**28
    assert cache_limit(None, free=None) == float("inf")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cache_limit(None, free=2**30) == 2**28
