"""Pseudo-labels of more than two classes: each class's points against those of all others."""

import numpy as np
import pytest
import torch
from monai.data import Dataset
from torch import nn

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.data.transforms import JoinPseudoLabeld
from cvm_monai.engines import PseudoLabelRenewal
from cvm_monai.engines.metrics import mask_dice
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.variational import segment

SHAPE = (16, 18)
SETTINGS = {"eta": 0.5, "lam": 3.0, "iterations": 20, "tolerance": 1e-3}
SQUARES = {1: (slice(2, 8), slice(2, 8)), 2: (slice(9, 14), slice(9, 16))}


class Identity(nn.Module):
    """Features are the image's channels, and so are the logits."""

    def features(self, x):
        return x, x


def item(case_id: str, *, inside=((4, 4, 1), (5, 6, 1), (11, 12, 2)), outside=((0, 0), (0, 17)), mask=True) -> dict:
    """A square of each class on a ground; points (row, column, class)."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label, place in SQUARES.items():
        labels[place] = label
    rng = np.random.default_rng(len(case_id))
    image = np.stack([labels == label for label in range(3)]) + 0.05 * rng.random((3, *SHAPE))
    points = np.array(inside, dtype=np.int64).reshape(-1, 3)
    return {
        "case_id": case_id,
        "image": torch.from_numpy(image.astype(np.float32)),
        "label": torch.full((1, *SHAPE), 255),
        "mask": torch.from_numpy(labels if mask else np.full_like(labels, 255))[None],
        "in_points": points[:, :2],
        "in_labels": points[:, 2],
        "out_points": np.array(outside, dtype=np.int64).reshape(-1, 2),
    }


def renewal_of(folder, items, *, classes=3) -> PseudoLabelRenewal:
    return PseudoLabelRenewal(
        network=Identity(),
        supervision=ContrastVariational(**SETTINGS),
        dataset=Dataset(items),
        store=PseudoLabelStore(folder),
        device="cpu",
        classes=classes,
        workers=1,
        progress=False,
    )


def test_u_of_each_class_is_the_segmentation_of_its_points_against_all_others(tmp_path):
    one = item("a")
    report = (renewal := renewal_of(tmp_path, [one])).renew(epoch=1)
    assert (report.labelled, report.skipped) == (1, {})
    inside, labels, features = one["in_points"], one["in_labels"], one["image"]
    u = []
    for label in (1, 2):
        others = np.concatenate([one["out_points"], inside[labels != label]])
        u.append(segment(features, inside[labels == label], others, **SETTINGS).u)
    background = 1 - np.maximum(*u)
    expected = np.stack([background, *u]) / (background + u[0] + u[1])
    found = renewal.store.get("a")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(0), one["mask"][0])
    assert report.dice == 1


def test_a_class_that_nobody_clicked_stays_unknown(tmp_path):
    items = [item("a", inside=((4, 4, 1),)), item("bb", outside=()), item("ccc", inside=())]
    report = (renewal := renewal_of(tmp_path, items)).renew(epoch=1)
    found = renewal.store.get("a")
    assert (found[2] == -1).all()
    np.testing.assert_allclose(found[:2].sum(0), 1, atol=1e-6)
    assert report.skipped == {"without points of background and of another class": 2}


def test_with_two_classes_the_categorical_pseudo_label_is_the_binary_one(tmp_path):
    """The same points once as target and background, once as a set of three classes of which one is never clicked."""
    one = item("a", inside=((4, 4, 1), (5, 6, 1)))
    binary, many = renewal_of(tmp_path / "2", [one], classes=2), renewal_of(tmp_path / "3", [one])
    binary.renew(epoch=1), many.renew(epoch=1)
    u, q = binary.store.get("a"), many.store.get("a")
    assert u.shape == SHAPE
    np.testing.assert_allclose(q[1], u, rtol=0, atol=1e-7)
    np.testing.assert_allclose(q[0], 1 - u, rtol=0, atol=1e-7)


def test_all_channels_are_joined_to_the_case_and_the_preview_shows_the_foreground(tmp_path):
    items = [item("a"), item("bb", inside=())]
    report = (renewal := renewal_of(tmp_path, items)).renew(epoch=1)
    join = JoinPseudoLabeld(renewal.store, classes=3)
    joined = join(items[0])["pseudo_label"]
    np.testing.assert_array_equal(joined, renewal.store.get("a"))
    assert join(items[1])["pseudo_label"].shape == (3, *SHAPE)
    assert (join(items[1])["pseudo_label"] == -1).all()
    preview = report.previews[0]
    np.testing.assert_allclose(preview.u, 1 - joined[0].numpy(), atol=1e-6)
    expected = 1 - torch.softmax(items[0]["image"], 0)[0]
    np.testing.assert_allclose(preview.probability, expected, atol=1e-6)


def test_validation_dice_is_the_mean_of_the_classes_that_the_mask_holds():
    """Class 1: 1 of 2 found and one too many, 2 / 4. Class 2: right, 1. Class 3 is absent; 255 counts for nothing."""
    mask = torch.tensor([[1, 1, 0, 2, 255, 0]])
    predicted = torch.tensor([[1, 0, 1, 2, 1, 3]])
    assert mask_dice(predicted, mask, classes=4) == pytest.approx((0.5 + 1) / 2)
    assert mask_dice(predicted, torch.tensor([[0, 0, 255, 0, 0, 0]]), classes=4) is None
