"""Optical density: known images, scikit-image's colour deconvolution, and what stays as it is."""

import numpy as np
import pytest
from skimage.color import rgb2hed, rgb_from_hed

from cvm_monai.data.stain import STAINS, concentration_change, restain
from cvm_monai.data.stain import density as module

from .conftest import tissue

UNIT = -np.log(1e-6)
"""scikit-image's unit of a concentration, in units of -ln I."""


def test_the_vectors_are_scikit_image_s():
    np.testing.assert_array_equal(STAINS, rgb_from_hed)


def test_no_change_changes_no_pixel_not_even_black_or_white():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(restain(image, np.eye(3)), image)
    np.testing.assert_array_equal(restain(image, concentration_change((1, 1, 1)), light=240), image)


def test_squaring_the_light_that_passes_is_twice_the_density():
    """Of 255: a half squared is a quarter, a fifth 1/25; white stays white."""
    image = np.array([[[255, 255, 255], [51, 51, 51], [128, 128, 128]]], dtype=np.uint8)
    found = restain(image, 2 * np.eye(3))
    assert found.tolist() == [[[255] * 3, [10] * 3, [64] * 3]]
    assert found.dtype == np.uint8


@pytest.mark.parametrize("factors", [(0.6, 1.0, 1.0), (1.5, 1.0, 1.0), (1.0, 0.6, 1.0), (1.0, 1.5, 1.0)])
def test_one_stain_is_multiplied_and_the_others_stay(factors):
    """scikit-image finds in the result what it finds in the original, times the factors."""
    image = tissue()
    before = rgb2hed(image) * UNIT
    after = rgb2hed(restain(image, concentration_change(factors))) * UNIT
    clear = (restain(image, concentration_change(factors)) > 40).all(axis=-1) & (image < 250).all(axis=-1)
    assert clear.mean() > 0.4
    # scikit-image cuts negative amounts off, and grey levels are rounded
    known = clear & (before > 0.02).all(axis=-1)
    np.testing.assert_allclose(after[known], (before * factors)[known], atol=0.06)


def test_large_images_are_changed_in_blocks_with_the_same_result(monkeypatch):
    image, change = tissue(), concentration_change((1.3, 0.7, 1))
    whole = restain(image, change)
    monkeypatch.setattr(module, "BLOCK", 500)
    np.testing.assert_array_equal(restain(image, change), whole)
