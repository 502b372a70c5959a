"""The transforms: jitter against scikit-image, a fixed shift, and normalisation of a whole training set's images."""

import logging
import math

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed

from cvm_monai.data.stain import fit_target
from cvm_monai.data.stain.transforms import (
    NormaliseStaind,
    RandStainJitterd,
    ScaleStaind,
    change_concentrations,
    fit_on_records,
)

from .conftest import tissue


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))


class Fixed:
    """`uniform` gives one known value after the other."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high, size=None):
        return self.values.pop(0)


def test_jitter_by_nothing_is_the_identity_from_black_to_white():
    image = torch.linspace(0, 1, 60).reshape(3, 5, 4)
    assert torch.equal(RandStainJitterd(amount=0)({"image": image})["image"], image)


def test_jitter_is_a_change_of_concentrations():
    """Against scikit-image's colour deconvolution, on an image that is made of stains."""
    rng = np.random.default_rng(0)
    natural = rng.uniform(0.1, 0.5, (6, 7, 3))  # concentrations in units of -ln I
    unit = -math.log(1e-6)  # scikit-image's
    image = hed2rgb(natural / unit)
    np.testing.assert_allclose(rgb2hed(image) * unit, natural, atol=1e-6)
    factor, shift = np.array([0.1, -0.2, 0.05]), np.array([0.02, 0.05, -0.03])
    jitter = RandStainJitterd()
    jitter.R = Fixed(factor, shift)
    out = jitter({"case_id": "a", "image": tensor(image).float()})
    expected = hed2rgb((natural * (1 + factor) + shift) / unit)
    np.testing.assert_allclose(np.moveaxis(out["image"].numpy(), 0, -1), expected, atol=1e-5)
    assert out["image"].dtype == torch.float32
    assert out["case_id"] == "a"


def test_a_shift_of_haematoxylin_alone_by_hand():
    """Grey 0.5 and c + 0.2: 0.5 exp(-0.2 s) with s = (0.65, 0.70, 0.29)."""
    out = change_concentrations(torch.full((3, 1, 1), 0.5), np.zeros(3), np.array([0.2, 0, 0]))
    torch.testing.assert_close(out[:, 0, 0], 0.5 * torch.exp(torch.tensor([-0.13, -0.14, -0.058])))


def test_a_change_is_undone_by_its_inverse():
    image = 0.3 + 0.4 * torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(0))
    factor, shift = np.array([0.2, -0.1, 0.1]), np.array([0.1, 0.05, -0.1])
    there = change_concentrations(image, factor, shift)
    back = change_concentrations(there, 1 / (1 + factor) - 1, -shift / (1 + factor))
    torch.testing.assert_close(back, image, atol=1e-5, rtol=0)


def test_jitter_repeats_under_a_seed_and_differs_from_draw_to_draw():
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    one, other = RandStainJitterd(), RandStainJitterd()
    one.set_random_state(seed=3)
    other.set_random_state(seed=3)
    first = one({"image": image})["image"]
    assert torch.equal(first, other({"image": image})["image"])
    assert not torch.equal(first, one({"image": image})["image"])


def test_jitter_stays_in_the_unit_interval_on_black_and_white():
    jitter = RandStainJitterd(amount=0.3)
    jitter.set_random_state(seed=0)
    for value in (0.0, 1.0):
        out = jitter({"image": torch.full((3, 2, 2), value)})["image"]
        assert out.isfinite().all()
        assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("amount", [1, -0.1, float("nan")])
def test_jitter_amounts_out_of_range_are_refused(amount):
    with pytest.raises(ValueError, match=rf"amount must lie in \[0, 1\), got {amount}"):
        RandStainJitterd(amount=amount)


def test_a_fixed_shift_changes_the_image_alone_and_factor_1_does_not():
    item = {"image": tensor(tissue()), "label": torch.zeros(1, 2, 2)}
    assert torch.equal(ScaleStaind()(item)["image"], item["image"])
    out = ScaleStaind(haematoxylin=1.5)(item)
    assert out["label"] is item["label"]
    assert out["image"].dtype == torch.uint8
    assert out["image"].float().mean() < item["image"].float().mean() - 5


def test_normalisation_brings_an_item_to_the_target_and_is_deterministic():
    target = fit_target([tissue()], method="macenko")
    transform = NormaliseStaind(target=target)
    item = {"case_id": "a", "image": tensor(tissue(factors=(0.6, 1.0)))}
    out = transform(item)["image"]
    assert torch.equal(transform(item)["image"], out)
    assert (out.int() - tensor(tissue()).int()).abs().float().mean() < 1
    assert transform.left_as_is == 0


def test_an_image_without_tissue_passes_unchanged_counted_and_named(caplog):
    transform = NormaliseStaind(target=fit_target([tissue()], method="macenko"))
    white = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING):
        out = transform({"case_id": "glass", "image": white})
    assert torch.equal(out["image"], white)
    assert transform.left_as_is == 1
    assert "case glass shows too little stained tissue to be normalised" in caplog.text


def test_without_a_target_nothing_happens():
    item = {"image": tensor(tissue())}
    assert torch.equal(NormaliseStaind(target=None)(item)["image"], item["image"])


def test_the_target_is_fitted_on_the_images_that_the_records_load(caplog):
    images = {"a": tissue(seed=0), "b": tissue(seed=1), "c": np.full((20, 20, 3), 255, dtype=np.uint8)}
    with caplog.at_level(logging.INFO):
        target = fit_on_records(
            [{"case_id": name} for name in images],
            load=lambda record: {"image": tensor(images[record["case_id"]])},
            method="macenko",
        )
    expected = fit_target(images.values(), method="macenko")
    np.testing.assert_array_equal(target.reference.vectors, expected.reference.vectors)
    assert "fitted on 2 training images; 1 show too little tissue" in caplog.text
