"""Pen marks: what is under the ink is background, what is not stays as it was."""

import numpy as np
import pytest
import torch

from cvm_monai.data.pen_marks import RandPenMarkd


def marker(seed: int = 0, **options) -> RandPenMarkd:
    transform = RandPenMarkd(**({"prob": 1.0} | options))
    transform.set_random_state(seed)
    return transform


def item_of(*, stride: int = 1, classes: int = 2) -> dict:
    """A grey image, all target, with one point of each class in opposite corners."""
    label = torch.full((1, 64, 64), 255, dtype=torch.uint8)
    label[0, 2:5, 2:5], label[0, 59:62, 59:62] = 1, 0
    u = torch.ones(1, 64, 64)
    if classes > 2:
        u = torch.zeros(classes, 64, 64)
        u[2] = 1
    mask = torch.ones(1, 64, 64, dtype=torch.uint8)
    return {"image": torch.full((3, 64 * stride, 64 * stride), 0.5), "label": label, "mask": mask, "pseudo_label": u}


@pytest.mark.parametrize("seed", range(8))
def test_under_the_ink_mask_and_pseudo_label_are_background_and_elsewhere_nothing_changes(seed):
    before = item_of()
    after = marker(seed)(before)
    ink = after["mask"] == 0
    assert 20 < int(ink.sum()) < 64 * 64 / 2
    assert torch.equal(after["pseudo_label"] == 0, ink)
    changed = (after["image"] - before["image"]).abs().amax(dim=0, keepdim=True) > 0.02
    assert changed[ink].float().mean() > 0.99
    assert not changed[torch.nn.functional.max_pool2d(ink.float(), 9, 1, 4) == 0].any()  # the border is soft
    assert set(after["label"][ink].unique().tolist()) == {0, 255}
    assert 9 <= int((after["label"][ink] == 0).sum()) <= 18  # two squares of 3 x 3, perhaps on each other
    assert torch.equal(after["label"][~ink], before["label"][~ink])
    assert 0 <= after["image"].min() <= after["image"].max() <= 1


def test_what_is_unlabelled_stays_so():
    item = item_of()
    item["mask"].fill_(255)
    item["pseudo_label"].fill_(-1)
    after = marker()(item)
    assert (after["mask"] == 255).all()
    assert (after["pseudo_label"] == -1).all()
    assert (after["label"] == 0).sum() > 9  # the points on the ink


def test_of_several_classes_the_background_gets_the_ink():
    after = marker()(item_of(classes=3))
    ink = after["mask"][0] == 0
    assert torch.equal(after["pseudo_label"][:, ink].mean(dim=1), torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(after["pseudo_label"][:, ~ink].mean(dim=1), torch.tensor([0.0, 0.0, 1.0]))


def test_the_maps_of_a_coarser_grid_follow_the_image():
    before = item_of(stride=4)
    after = marker()(before)
    darker = (after["image"] - before["image"]).abs().amax(dim=0)[2::4, 2::4] > 0.02
    ink = after["mask"][0] == 0
    assert darker[ink].float().mean() > 0.9
    assert ink[darker].float().mean() > 0.6


def test_a_mark_that_would_cover_the_only_point_is_drawn_elsewhere():
    item = item_of()
    item["label"].fill_(255)
    item["label"][0, 30:33, 30:33] = 1
    for seed in range(20):
        assert (marker(seed)(item)["label"] == 1).any()
    item["label"].fill_(1)
    item["label"][0, 0, 0] = 2
    for seed in range(20):
        assert {1, 2} <= set(marker(seed)(item)["label"].unique().tolist())


def test_the_share_of_marked_items_is_that_asked_for():
    transform, item = marker(prob=0.25), item_of()
    marked = [bool((transform(item)["mask"] == 0).any()) for _ in range(400)]
    assert np.mean(marked) == pytest.approx(0.25, abs=0.065)  # three standard deviations
    assert not (marker(prob=0.0)(item)["mask"] == 0).any()


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"prob": 1.5}, r"prob must lie in \[0, 1\], got 1.5"),
        ({"prob": float("nan")}, r"prob must lie in \[0, 1\], got nan"),
        ({"point_size": 2}, "point_size must be 1, 3, 5 or 7, got 2"),
    ],
)
def test_a_tunable_out_of_range_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        RandPenMarkd(**options)
