"""Values of 12 or 8 bits in 16: by what the file declares, else by the values, with a warning."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.slides import open_image, read_image, read_picture


def deep(pixels, bits):
    """As a camera of so many bits would store them."""
    return (pixels.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)


def save_png16(path, pixels):
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(pixels))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("name", ["a.tif", "tiled.tif", "a.png"])
def test_values_of_few_bits_are_scaled_with_a_warning_that_names_the_choice(tmp_path, pixels, bits, name):
    shown = pixels.copy()
    shown[0, 0] = 255
    path, stored = tmp_path / name, deep(shown, bits)
    if name == "a.png":
        save_png16(path, stored)
    else:
        tifffile.imwrite(path, stored, photometric="rgb", **({"tile": (64, 64)} if name == "tiled.tif" else {}))
    found = read_picture(path)
    assert np.abs(found.pixels.astype(int) - shown).max() <= 1
    (warning,) = found.warnings
    assert f"{name}: its 16 bits hold values up to {2**bits - 1} only, and it does not say how many" in warning
    assert f"they are taken for {bits} bits, so that {2**bits - 1} is white" in warning
    with open_image(path) as image:
        assert image.warnings == found.warnings
        np.testing.assert_array_equal(image.read((0, 0), shape=image.shape), found.pixels)


@pytest.mark.parametrize("name", ["a.tif", "tiled.tif", "a.png"])
def test_a_few_values_that_are_larger_do_not_make_the_picture_dark(tmp_path, pixels, name):
    path, stored = tmp_path / name, deep(np.maximum(pixels, 1), 12)
    stored[:8, 0, 0] = 65_535  # a dead pixel, a scale bar
    if name == "a.png":
        save_png16(path, stored)
    else:
        tifffile.imwrite(path, stored, photometric="rgb", **({"tile": (64, 64)} if name == "tiled.tif" else {}))
    found = read_picture(path)
    assert np.abs(found.pixels[8:].astype(int) - pixels[8:]).max() <= 1
    assert (found.pixels[:8, 0, 0] == 255).all()
    (warning,) = found.warnings
    assert "its 16 bits hold values below 4096 but for 0.0" in warning
    assert "they are taken for 12 bits, so that 4095 is white" in warning


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_values_of_all_16_bits_keep_their_upper_eight_without_a_warning(tmp_path, pixels, name):
    path = tmp_path / name
    save_png16(path, deep(pixels, 16)) if name == "a.png" else tifffile.imwrite(path, deep(pixels, 16))
    found = read_picture(path)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.warnings == ()


def test_grey_and_transparent_pngs_of_16_bits(tmp_path, pixels):
    grey = deep(pixels[..., 0], 12)
    grey[0, 0] = 4095
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png")[1:].astype(int) - pixels[1:, :, :1]).max() <= 1
    clear = np.dstack([deep(pixels, 16), np.zeros(pixels.shape[:2], np.uint16)])
    save_png16(tmp_path / "b.png", clear)
    assert (read_image(tmp_path / "b.png") == 255).all()


@pytest.mark.parametrize("how", ["MaxSampleValue", "SignificantBits"])
def test_declared_bits_are_believed_without_a_warning(tmp_path, pixels, how):
    dark = pixels // 8  # its brightest value would look like 9 bits
    if how == "MaxSampleValue":
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, deep(dark, 12), photometric="rgb", extratags=[(281, "H", 3, (4095,) * 3, True)])
    else:
        path = tmp_path / "a.ome.tif"
        tifffile.imwrite(path, deep(dark, 12), photometric="rgb", metadata={"SignificantBits": 12})
        assert "SignificantBits" in tifffile.TiffFile(path).ome_metadata
    found = read_picture(path)
    assert np.abs(found.pixels.astype(int) - dark).max() <= 1
    assert found.warnings == ()


def test_a_pyramid_of_16_bits_is_judged_by_its_smallest_level(tmp_path, pixels):
    stored = deep(np.maximum(pixels, 1), 12)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(stored, photometric="rgb", tile=(64, 64), subifds=1)
        writer.write(np.ascontiguousarray(stored[::2, ::2]), photometric="rgb", tile=(64, 64), subfiletype=1)
    with open_image(tmp_path / "a.ome.tif") as image:
        assert len(image.levels) == 2
        assert "taken for 12 bits" in image.warnings[0]
        assert np.abs(image.read((0, 0), shape=image.shape).astype(int) - pixels).max() <= 1
