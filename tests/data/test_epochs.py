"""Random transforms seeded by (seed, epoch, index): the same stream for any number of workers and any history."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Randomizable, Transform

from cvm_monai.data.epochs import PreparedCases, SeededCacheDataset


class Draw(Randomizable, Transform):
    """What a random transform draws, as the item."""

    def __call__(self, item):
        return {"value": torch.tensor(self.R.random_sample(2)), "index": item["index"]}


def drawing(*, seed=0, cases=5) -> SeededCacheDataset:
    data = [{"index": index} for index in range(cases)]
    return SeededCacheDataset(data, transform=Compose([Draw()]), seed=seed, num_workers=1, progress=False)


def stream(dataset, epochs, **options) -> np.ndarray:
    """(epochs, cases, 2) as a loader gives them, in the order of the cases."""
    loader = DataLoader(dataset, batch_size=2, **options)
    found = []
    for epoch in epochs:
        dataset.set_epoch(epoch)
        found.append(torch.cat([batch["value"] for batch in loader]).numpy())
    return np.stack(found)


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str)
def test_workers_draw_what_the_process_itself_draws(options):
    np.testing.assert_array_equal(stream(drawing(), (1, 2, 3), **options), stream(drawing(), (1, 2, 3)))


def test_an_epoch_is_the_same_whatever_was_drawn_before():
    np.testing.assert_array_equal(stream(drawing(), (3,))[0], stream(drawing(), (1, 2, 3))[2])


def test_seeds_epochs_and_cases_draw_differently():
    values = np.concatenate([stream(drawing(seed=seed), (1, 2)).ravel() for seed in (0, 1)])
    assert len(np.unique(values)) == 2 * 2 * 5 * 2


def test_a_negative_index_is_the_same_case():
    dataset = drawing()
    assert dataset[-1]["value"].tolist() == dataset[4]["value"].tolist()


def test_a_transform_that_cannot_be_seeded_as_a_whole_is_refused():
    with pytest.raises(TypeError, match="transform must be a Compose, got Draw"):
        SeededCacheDataset([{"index": 0}], transform=Draw(), seed=0)


class Add(Randomizable, Transform):
    """A random transform that adds 100, in place."""

    def __call__(self, item):
        item["pixels"] += 100
        return item


class Read(Transform):
    """Counts how often a case is read."""

    def __init__(self):
        self.times = 0

    def __call__(self, item):
        self.times += 1
        return {"pixels": np.full(3, item["index"], dtype=np.uint8)}


@pytest.mark.parametrize("options", [{}, {"runtime_cache": True}], ids=["at once", "when asked for"])
def test_prepared_cases_share_the_cache_of_the_data_set_that_trains(options):
    read = Read()
    data = [{"index": index} for index in range(4)]
    training = SeededCacheDataset(
        data, transform=Compose([read, Add()]), seed=0, num_workers=1, progress=False, **options
    )
    prepared = PreparedCases(training, transform=lambda item: {"pixels": item["pixels"] / 2.0})
    for _ in range(2):
        assert [item["pixels"].tolist() for item in prepared] == [[index / 2] * 3 for index in range(4)]
        assert [item["pixels"].tolist() for item in training] == [[index + 100] * 3 for index in range(4)]
    assert read.times == 4
    assert prepared.data is training.data


def test_cases_that_are_not_cached_are_prepared_when_asked_for_and_a_change_harms_no_cache():
    read = Read()
    data = [{"index": index} for index in range(4)]
    training = SeededCacheDataset(
        data, transform=Compose([read, Add()]), seed=0, cache_num=2, num_workers=1, progress=False
    )
    prepared = PreparedCases(training, transform=lambda item: item)
    prepared[0]["pixels"] += 7
    assert [item["pixels"][0] for item in prepared] == [0, 1, 2, 3]
    assert read.times == 2 + 2
