"""Inference in memory is the bundle's inference, also by um/px and for more classes."""

import numpy as np
import pytest
from PIL import Image

from cvm_monai.place import checked_bundle
from cvm_monai.registry.pipeline import BundlePipeline
from cvm_monai.registry.staging import stage
from cvm_monai.registry.trained import read_trained


def pipeline_of(output, folder) -> BundlePipeline:
    return BundlePipeline(stage(read_trained(output), folder / "staged", bundle=checked_bundle()), device="cpu")


def test_an_image_of_another_um_per_px_is_resampled_and_answered_at_its_own_size(
    finished, images, bundle_masks, tmp_path
):
    output = finished(mpp=0.5)
    pipeline = pipeline_of(output, tmp_path)
    for name, expected in bundle_masks(output, image_mpp=0.8).items():
        image = np.array(Image.open(images / f"{name}.png"))
        found = pipeline(image, mpp=0.8)
        assert found.shape == (1, *image.shape[:2])
        np.testing.assert_array_equal(found[0] > 0.5, expected > 0)
        assert (found != pipeline(image, mpp=0.5)).any()


def test_three_classes_are_told_apart_as_by_the_bundle(finished, images, bundle_masks, tmp_path):
    output = finished(classes=3)
    pipeline = pipeline_of(output, tmp_path)
    for name, expected in bundle_masks(output).items():
        found = pipeline(np.array(Image.open(images / f"{name}.png")))
        np.testing.assert_array_equal(found.argmax(axis=0), expected)


def test_a_network_of_known_um_per_px_wants_the_image_s(finished, tmp_path):
    pipeline = pipeline_of(finished(mpp=0.5), tmp_path)
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"no mpp, and the network was trained at 0.5 um/px"):
        pipeline(image)
    with pytest.raises(ValueError, match="64 x 64 px would become 1000 times as wide: check mpp"):
        pipeline(image, mpp=500)
