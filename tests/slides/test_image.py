import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from cvm_monai.annotations import rasterise_regions, read_annotations
from cvm_monai.slides import image_size, read_image, read_mask

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
GREY = RGB[..., 0]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff"])
def test_lossless_formats_give_the_pixels(tmp_path, name):
    path = save(tmp_path / name, RGB)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)
    assert image_size(path) == (2, 3)


def test_jpeg_is_close(tmp_path):
    flat = np.full((16, 24, 3), (200, 120, 160), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", flat, quality=95)
    np.testing.assert_allclose(read_image(path).astype(int), flat, atol=3)
    assert image_size(path) == (16, 24)


@pytest.mark.parametrize("array", [GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.uint16) * 256 + 255])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_8_and_16_bits_becomes_rgb(tmp_path, array, name):
    np.testing.assert_array_equal(read_image(save(tmp_path / name, array)), np.dstack([GREY] * 3))


def test_transparency_lies_on_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert read_image(save(tmp_path / "a.png", rgba)).tolist() == expected
    options = {"photometric": "rgb", "compression": "jpeg2000", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", rgba, **options)
    assert read_image(tmp_path / "a.tif").tolist() == expected


def test_palette_is_resolved_in_images_and_kept_in_masks(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 0, 0], [0, 255, 0]]]
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "options", [{"planarconfig": "contig"}, {"planarconfig": "separate"}, {"compression": "jpeg2000"}], ids=str
)
def test_tiffs_that_pillow_misreads_come_from_tifffile(tmp_path, options):
    array = RGB.astype(np.uint16) * 257
    planes = np.moveaxis(array, -1, 0) if options.get("planarconfig") == "separate" else array
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(planes), photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)
    assert image_size(tmp_path / "a.tif") == (2, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png"])
def test_orientation_is_never_applied(tmp_path, name):
    flat = np.zeros((16, 32, 3), dtype=np.uint8)
    flat[:, 16:] = 255
    image = Image.fromarray(flat)
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / name, exif=exif, quality=100)
    assert ImageOps.exif_transpose(Image.open(tmp_path / name)).size == (16, 32)  # the file does ask for it
    assert image_size(tmp_path / name) == (16, 32)
    np.testing.assert_allclose(read_image(tmp_path / name).astype(int), flat, atol=2)


def test_masks_keep_their_labels(tmp_path):
    for name, array in {
        "bits.png": GREY > 40,
        "labels.png": GREY,
        "deep.png": GREY.astype(np.uint16) * 300,
        "deep.tif": GREY.astype(np.uint16) * 300,
        "wide.tif": GREY.astype(np.int32) * 70_000,
    }.items():
        mask = read_mask(save(tmp_path / name, array))
        assert np.issubdtype(mask.dtype, np.integer)
        np.testing.assert_array_equal(mask, array)


def test_grey_mask_stored_as_rgb_is_one_channel(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", np.dstack([GREY] * 3))), GREY)


@pytest.mark.parametrize(
    "name, array, sentence",
    [
        ("a.jpg", GREY, "a.jpg cannot be read as a mask: JPEG changes labels near borders; save it as PNG"),
        ("a.png", RGB, "a.png cannot be read as a mask: it has colours"),
        ("a.tif", GREY.astype(np.float32), "its pixels are float32; save the labels as integers"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path, name, array, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_mask(save(tmp_path / name, array))


@pytest.mark.parametrize(
    "array, options, sentence",
    [
        (GREY.astype(np.float32), {}, "its pixels are float32; save it as RGB"),
        (np.zeros((4, 4, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}, "it has 5 channels"),
    ],
)
def test_pixels_of_another_kind_are_refused(tmp_path, array, options, sentence):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(ValueError, match=f"a.tif cannot be read as an image: {sentence}"):
        read_image(tmp_path / "a.tif")


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "j.tif"])
def test_truncated_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name == "j.tif":
        tifffile.imwrite(path, NOISE, photometric="rgb", compression="jpeg2000")
    else:
        save(path, NOISE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
        read_image(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=r"none.png does not exist"):
            read(tmp_path / "none.png")
        for content in (b"", b"not an image"):
            (tmp_path / "a.png").write_bytes(content)
            with pytest.raises(ValueError, match=r"a.png cannot be read as an? \w+: unknown or damaged format"):
                read(tmp_path / "a.png")


def test_pillows_limit_is_lifted_and_restored_and_ours_holds(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    np.testing.assert_array_equal(read_image(path), RGB)
    assert Image.MAX_IMAGE_PIXELS == 1
    monkeypatch.setattr("cvm_monai.slides.image.MAX_PIXELS", 5)
    with pytest.raises(ValueError, match="3 x 2 px are too many for a flat image; cut it into tiles"):
        image_size(path)


def test_real_bad_files_are_refused(shared_dir):
    for name in ("unopenable.tiff", "unreadable.svs"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            read_image(shared_dir / "formats" / "bad" / name)
    assert read_image(shared_dir / "formats" / "bad" / "small.svs").shape == (16, 16, 3)


def png(depth, kind, rows, width):
    """A PNG of any bit depth, written by hand."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


LABELS = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)


def save_inverting(path, labels, **options):
    tifffile.imwrite(path, labels, photometric="miniswhite", metadata=None, **options)


MASKS = {
    "imagej_inverting_lut.tif": lambda path: save_inverting(path, LABELS, description="ImageJ=1.53t\n"),
    "inverting_tiles.tif": lambda path: save_inverting(path, LABELS, tile=(16, 16), compression="zlib"),
    "inverting_16.tif": lambda path: save_inverting(path, LABELS.astype(np.uint16)),
    "palette.tif": lambda path: tifffile.imwrite(
        path, LABELS, photometric="palette", colormap=np.tile(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 1))
    ),
    "palette.png": lambda path: save_palette(path),
    "palette.bmp": lambda path: save_palette(path),
    "grey_of_2_bits.png": lambda path: path.write_bytes(png(2, 0, [b"\x1b", b"\xe4"], 4)),
    "grey_of_4_bits.png": lambda path: path.write_bytes(png(4, 0, [b"\x01\x23", b"\x32\x10"], 4)),
    "with_alpha.tif": lambda path: tifffile.imwrite(
        path, np.dstack([LABELS, LABELS * 0]), photometric="minisblack", planarconfig="contig", extrasamples=[2]
    ),
    "with_alpha.png": lambda path: Image.fromarray(np.dstack([LABELS, LABELS * 0]), "LA").save(path),
    "turned.tif": lambda path: tifffile.imwrite(path, LABELS, extratags=[(274, "H", 1, 6, True)]),
}


def save_palette(path):
    image = Image.fromarray(LABELS)
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9, 77, 0, 0] + [0] * 756)
    image.save(path)


@pytest.mark.parametrize("name", list(MASKS))
def test_masks_are_stored_values_whatever_the_palette_or_polarity(tmp_path, name):
    MASKS[name](tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / name), LABELS)
    found = read_annotations(tmp_path / name, classes={"c2": 2, "c3": 3})
    drawn = rasterise_regions(found.regions, image_shape=(2, 4), map_shape=(2, 4))
    np.testing.assert_array_equal(drawn, LABELS)


def test_a_bilevel_mask_that_calls_zero_white_is_stored_bits(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS > 1, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), (LABELS > 1).astype(np.uint8))


def test_labels_of_16_bits_in_three_channels_keep_all_bits(tmp_path):
    wide = np.dstack([LABELS.astype(np.uint16) * 300] * 3)
    (tmp_path / "a.png").write_bytes(png(16, 2, [row.astype(">u2").tobytes() for row in wide], 4))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), wide[..., 0])


def test_of_the_pages_of_a_mask_the_largest_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(LABELS[:1, :2], metadata=None)
        writer.write(LABELS, metadata=None)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), LABELS)


@pytest.mark.parametrize(
    "array, options, sentence",
    [
        (np.zeros((2, 8, 8), np.uint8), {}, "it has 2 pages of one size, where a mask is one channel of labels"),
        (np.zeros((8, 8, 2), np.uint8), {"planarconfig": "contig", "photometric": "minisblack"}, "it has 2 channels"),
        (np.zeros((16, 16), np.uint8), {"compression": "jpeg"}, "JPEG changes labels near borders; save it as PNG"),
    ],
    ids=str,
)
def test_masks_of_several_channels_or_in_jpeg_are_refused(tmp_path, array, options, sentence):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(ValueError, match=f"a.tif cannot be read as a mask: {sentence}"):
        read_mask(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"a.tif cannot be read as a label image: {sentence}"):
        read_annotations(tmp_path / "a.tif")
