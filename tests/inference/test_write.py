"""Prediction files: what other programs read back."""

import nibabel
import numpy as np
import pytest
import tifffile
from monai.transforms import LoadImaged
from PIL import Image

from cvm_monai.inference import prediction_paths, write_prediction
from cvm_monai.slides import read_mask

PROBABILITY = np.array([[0.0, 0.5, 0.501], [1.0, 0.1, 0.9]], dtype=np.float32)
MASK = np.array([[0, 0, 1], [1, 0, 1]], dtype=np.uint8)
BYTES = np.array([[0, 128, 128], [255, 26, 230]], dtype=np.uint8)


def test_png_holds_rounded_bytes_and_a_visible_mask(tmp_path):
    mask = write_prediction(tmp_path / "new", "a.b", PROBABILITY)
    np.testing.assert_array_equal(mask, MASK == 1)
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "a.b_probability.png"), BYTES)
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "a.b_mask.png"), 255 * MASK)
    np.testing.assert_array_equal(read_mask(tmp_path / "new" / "a.b_mask.png") != 0, MASK == 1)
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_tiff_holds_pixel_size_and_floating_point_numbers(tmp_path):
    write_prediction(tmp_path, "a", PROBABILITY, output_format="tiff", probability_type="float32", mpp=0.5)
    with tifffile.TiffFile(tmp_path / "a_probability.tif") as file:
        page = file.pages.first
        np.testing.assert_array_equal(page.asarray(), PROBABILITY)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert not page.is_tiled
        assert page.get_resolution("MICROMETER")[0] == pytest.approx(2.0)  # pixels per micrometre
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a_mask.tif"), 255 * MASK)


def test_a_large_tiff_is_tiled(tmp_path):
    write_prediction(tmp_path, "a", np.zeros((40, 1025)), output_format="tiff")
    with tifffile.TiffFile(tmp_path / "a_mask.tif") as file:
        assert file.pages.first.is_tiled
        assert file.pages.first.shape == (40, 1025)


@pytest.mark.parametrize("probability_type, expected", [("uint8", BYTES), ("float32", PROBABILITY)])
def test_nifti_holds_labels_along_x_and_y(tmp_path, probability_type, expected):
    write_prediction(tmp_path, "a", PROBABILITY, output_format="nifti", probability_type=probability_type, mpp=0.5)
    probability, mask = (nibabel.load(path) for path in prediction_paths(tmp_path, "a", output_format="nifti"))
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T, MASK)
    np.testing.assert_array_equal(np.asarray(probability.dataobj).T, expected)
    assert mask.get_data_dtype() == np.uint8
    assert probability.get_data_dtype() == expected.dtype


def test_monai_loads_a_nifti_mask_in_the_orientation_of_its_image(tmp_path):
    Image.fromarray(np.stack([255 * MASK] * 3, axis=-1)).save(tmp_path / "a.png")
    write_prediction(tmp_path, "a", PROBABILITY, output_format="nifti")
    paths = {"image": tmp_path / "a.png", "label": tmp_path / "a_mask.nii.gz"}
    loaded = LoadImaged(keys=["image", "label"], ensure_channel_first=True)(paths)
    assert loaded["label"].shape == (1, 3, 2)
    np.testing.assert_array_equal(loaded["image"][:1] / 255, loaded["label"])
    np.testing.assert_array_equal(loaded["image"].affine, loaded["label"].affine)


def test_a_format_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="output_format must be one of png, tiff, nifti, got 'jpg'"):
        write_prediction(tmp_path, "a", PROBABILITY, output_format="jpg")
    with pytest.raises(ValueError, match="probability_type must be one of uint8, float32, got 'int'"):
        write_prediction(tmp_path, "a", PROBABILITY, probability_type="int")
    with pytest.raises(ValueError, match="a PNG cannot hold float32"):
        write_prediction(tmp_path, "a", PROBABILITY, probability_type="float32")


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    write_prediction(tmp_path, "a", PROBABILITY)
    before = (tmp_path / "a_mask.png").read_bytes()
    with pytest.raises((ValueError, TypeError)):
        write_prediction(tmp_path, "a", np.zeros((2, 2, 2, 2)))
    assert (tmp_path / "a_mask.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_mask.png", "a_probability.png"]
