"""Turning and zooming: exact where nothing is interpolated, aligned where something is."""

import numpy as np
import pytest
import torch

from cvm_monai.data.augmentation import RandAffineMapsd


class Fixed:
    """Random numbers that are known: `uniform` gives one after the other, `random` always 0."""

    def __init__(self, *values):
        self.values = list(values)

    def random(self):
        return 0.0

    def uniform(self, low, high, size=None):
        return self.values.pop(0)


def affine(*draws: tuple[float, float, float]) -> RandAffineMapsd:
    """One with known draws of (angle, exponent of the zoom, shear)."""
    transform = RandAffineMapsd(zoom=1.0, degrees=180)
    transform.R = Fixed(*(value for draw in draws for value in draw))
    return transform


def item_of(label: torch.Tensor, *, stride: int = 1) -> dict:
    """The label once more as mask, a pseudo-label that differs in every pixel, and an image that repeats it."""
    u = torch.arange(label.numel()).reshape(label.shape) / label.numel()
    image = u.repeat_interleave(stride, 1).repeat_interleave(stride, 2).expand(3, -1, -1)
    return {"case_id": "a", "image": image.clone(), "label": label, "mask": label.clone(), "pseudo_label": u}


def corner_points(height: int, width: int) -> torch.Tensor:
    label = torch.full((1, height, width), 255, dtype=torch.uint8)
    label[0, height // 2 - 1 : height // 2 + 2, width // 2 - 1 : width // 2 + 2] = 1
    label[0, height // 2, width // 2] = 0
    return label


@pytest.mark.parametrize("stride", [1, 16])
@pytest.mark.parametrize("angle, turns", [(0.0, 0), (90.0, 1), (180.0, 2), (-90.0, 3)])
def test_quarter_turns_are_exact_on_image_and_maps(stride, angle, turns):
    item = item_of(corner_points(6, 6), stride=stride)
    out = affine((angle, 0.0, 0.0))(item)
    for key in ("label", "mask", "pseudo_label", "image"):
        expected = torch.rot90(item[key], turns, (1, 2))
        torch.testing.assert_close(out[key].double(), expected.double(), atol=1e-5, rtol=0)
    assert out["case_id"] == "a"
    assert out["label"].dtype == torch.uint8


def test_halving_shows_every_second_pixel_amid_what_is_unknown_and_mirrors_the_image():
    """Zoom 1/2 about the centre of 4 pixels: the inner 2 x 2 show the old picture, the rest lies outside of it."""
    label = torch.zeros(1, 4, 4, dtype=torch.uint8)
    item = item_of(label)
    out = affine((0.0, -1.0, 0.0))(item)
    for key, fill in (("label", 255), ("mask", 255), ("pseudo_label", -1.0)):
        known = out[key][0] != fill
        assert known.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]
    assert out["image"].min() >= item["image"].min()  # nothing black comes in
    assert (out["label"][0, 1:3, 1:3] == 0).all()


def test_a_picture_that_is_no_square_is_turned_not_squeezed():
    """A vertical bar of 2 x 8 pixels in 16 x 32 becomes a horizontal one of 8 x 2."""
    label = torch.full((1, 16, 32), 255, dtype=torch.uint8)
    label[0, 4:12, 15:17] = 1
    out = affine((90.0, 0.0, 0.0))(item_of(label))["label"][0]
    rows, columns = torch.nonzero(out == 1).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 8, 12, 19)


def test_shear_moves_rows_sideways():
    """Shear 1 about the centre: row r of new is row r of old, moved by its distance to the centre."""
    label = torch.full((1, 5, 9), 255, dtype=torch.uint8)
    label[0, :, 4] = 1
    out = affine((0.0, 0.0, 1.0))(item_of(label))["label"][0]
    assert torch.nonzero(out == 1).tolist() == [[0, 6], [1, 5], [2, 4], [3, 3], [4, 2]]


@pytest.mark.parametrize("stride, size, point", [(1, 64, 3), (16, 8, 1)])
def test_no_class_of_the_label_is_ever_lost(stride, size, point):
    generator, unchanged = np.random.default_rng(0), 0
    transform = RandAffineMapsd(prob=1.0)
    transform.set_random_state(seed=0)
    for _ in range(100):
        label = torch.full((1, size, size), 255, dtype=torch.uint8)
        for value in (0, 1):  # at the border, where a turn throws points out
            row, column = 0, int(generator.integers(0, size - point))
            label[0, row : row + point, column : column + point] = value
        found = transform(item_of(label, stride=stride))["label"]
        assert set(found.unique().tolist()) == set(label.unique().tolist())
        unchanged += torch.equal(found, label)
    assert unchanged < 50  # most are turned all the same


def test_a_draw_that_loses_a_class_is_drawn_again_and_the_item_stays_where_all_do():
    label = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    label[0, 4, 4], label[0, 0, 0] = 1, 0
    item, away = item_of(label), (45.0, 0.0, 0.0)
    out = affine(away, (90.0, 0.0, 0.0))(item)["label"]
    assert torch.equal(out, torch.rot90(label, 1, (1, 2)))
    assert torch.equal(affine(*[away] * 8)(item)["label"], label)


def test_probability_zero_changes_nothing_and_one_repeats_under_a_seed():
    item = item_of(corner_points(16, 16))
    assert RandAffineMapsd(prob=0.0)(item) == item
    one, other = RandAffineMapsd(prob=1.0), RandAffineMapsd(prob=1.0)
    one.set_random_state(seed=3)
    other.set_random_state(seed=3)
    first, second = one(item)["image"], other(item)["image"]
    assert torch.equal(first, second)
    assert not torch.equal(one(item)["image"], first)


@pytest.mark.parametrize("name, value", [("prob", 1.1), ("degrees", -1), ("zoom", 2), ("shear", 0.6)])
def test_affine_tunables_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, .*\], got {value}"):
        RandAffineMapsd(**{name: value})
