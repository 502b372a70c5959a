"""Label images as annotations."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.annotations import Region, rasterise_regions, read_annotations


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_regions_draw_the_label_image_again(tmp_path, suffix):
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], dtype=np.uint8), (30, 40))
    labels[5:20, 5:20] = 1
    labels[8:12, 8:12] = 0
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, labels) if suffix == ".tif" else Image.fromarray(labels).save(path)
    found = read_annotations(path, classes={"Fat": 2})
    assert found.points == ()
    np.testing.assert_array_equal(rasterise_regions(found.regions, image_shape=(30, 40), map_shape=(30, 40)), labels)


def test_outlines_follow_the_borders_of_pixels_and_holes_are_holes(tmp_path):
    labels = np.full((6, 6), 7, dtype=np.uint16)
    labels[1:5, 1:5] = 1
    labels[2:4, 2:4] = 7
    Image.fromarray(labels).save(tmp_path / "a.png")
    (region,) = read_annotations(tmp_path / "a.png", classes={"7": "skip"}).regions
    assert {frozenset(ring) for ring in (region.exterior, *region.holes)} == {
        frozenset({(1, 1), (5, 1), (5, 5), (1, 5)}), frozenset({(2, 2), (4, 2), (4, 4), (2, 4)})
    }  # fmt: skip
    assert isinstance(region, Region)
    assert len(region.holes) == 1


def test_what_is_no_label_image_is_named(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png cannot be read as a label image: it has colours"):
        read_annotations(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"b.png cannot be read as a label image"):
        read_annotations(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"c.png does not exist"):
        read_annotations(tmp_path / "c.png")
    tifffile.imwrite(tmp_path / "d.tif", np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(ValueError, match=r"d.tif cannot be read as a label image: its pixels are float32"):
        read_annotations(tmp_path / "d.tif")
    Image.new("L", (4, 4), 9).save(tmp_path / "e.png")
    with pytest.raises(ValueError, match=r"e.png, value 9: unknown label '9'"):
        read_annotations(tmp_path / "e.png")
