"""A step's cases as one batch or as several small ones."""

import pytest
import torch

from cvm_monai.data.epochs import MicroBatchCollate


def cases(*sides):
    return [{"case_id": str(side), "image": torch.full((1, side, side), float(side))} for side in sides]


def test_cases_that_fit_are_one_batch():
    batch = MicroBatchCollate(size=2)(cases(3, 3))
    assert batch["case_id"] == ["3", "3"]
    assert batch["image"].shape == (2, 1, 3, 3)


def test_more_cases_are_a_list_of_batches_in_their_order_the_last_one_smaller():
    batches = MicroBatchCollate(size=2)(cases(3, 3, 4, 4, 5))
    assert [batch["case_id"] for batch in batches] == [["3", "3"], ["4", "4"], ["5"]]
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 1, 3, 3), (2, 1, 4, 4), (1, 1, 5, 5)]


@pytest.mark.parametrize("size", [0, 1.5, True])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="size must be a whole number of at least 1, got"):
        MicroBatchCollate(size=size)
