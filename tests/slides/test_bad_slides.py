"""Files that are refused, each in one sentence that names it."""

import struct
import zlib

import numpy as np
import pytest
import tifffile

from cvm_monai.slides import open_image


def refusal(path):
    with pytest.raises(ValueError, match=r"\w") as caught:
        open_image(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def test_the_wrong_kind_of_path(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "no.svs")
    for name in ("a.svs", "a.tif", "a.png", "a.dcm"):
        (tmp_path / name).touch()
        assert "is empty (0 bytes)" in refusal(tmp_path / name)
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    assert "unknown kind of image; supported are .png, .jpg" in refusal(tmp_path / "a.pdf")


@pytest.mark.parametrize("name", ["a.svs", "a.tif", "a.png", "a.ndpi", "a.dcm", "a.mrxs", "a.czi"])
def test_text_under_the_name_of_an_image(tmp_path, name):
    (tmp_path / name).write_text("this is no image " * 20)
    assert "cannot be" in refusal(tmp_path / name)


def test_a_png_that_claims_too_many_pixels_is_refused_with_its_size(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert "100000 x 100000 px are too many for a flat image" in refusal(tmp_path / "bomb.png")


def test_a_tiff_of_one_enormous_compressed_strip_is_refused_with_its_size(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path, np.zeros((16, 16, 3), dtype=np.uint8), photometric="rgb", compression="zlib", rowsperstrip=16
    )
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages.first.tags[tag].overwrite(100_000, dtype="I")
    assert "100000 x 100000 px" in refusal(path)


@pytest.mark.parametrize("kind", ["float32", "five channels", "channels as pages"])
def test_tiffs_that_are_no_picture(tmp_path, kind):
    path = tmp_path / "a.ome.tif"
    if kind == "float32":
        tifffile.imwrite(path, np.zeros((32, 32), dtype=np.float32))
        assert "float" in refusal(path)
    elif kind == "five channels":
        tifffile.imwrite(path, np.zeros((32, 32, 5), dtype=np.uint8), planarconfig="contig", photometric="minisblack")
        assert "5 channels" in refusal(path)
    else:
        array = np.zeros((3, 32, 32), dtype=np.uint8)
        tifffile.imwrite(path, array, metadata={"axes": "CYX"}, photometric="minisblack")
        assert "its channels are separate pages" in refusal(path)


def test_a_truncated_pyramid_fails_where_its_bytes_end_and_reads_before(tmp_path, make_pyramid, pixels):
    path = make_pyramid(tmp_path / "a.tif", pixels, levels=1)
    with tifffile.TiffFile(path) as tiff:
        offsets = tiff.pages.first.dataoffsets
    data = path.read_bytes()
    path.write_bytes(data[: offsets[-1] + 10])
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0), shape=(64, 64)), pixels[:64, :64])
        with pytest.raises(
            ValueError, match=r"a\.tif cannot be read at \(390, 330\), 10 x 12 level-0 px: .+; the file"
        ):
            image.read((390, 330), shape=(12, 10))
        np.testing.assert_array_equal(image.read((0, 0), shape=(64, 64)), pixels[:64, :64])  # still usable


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, of the last reader that is tried
def test_a_pyramid_cut_in_its_directory_does_not_open_or_keeps_the_levels_that_are_whole(
    tmp_path, make_pyramid, pixels
):
    path = make_pyramid(tmp_path / "a.ome.tif", pixels, ome=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.ome\.tif cannot be (opened|read)"):
        open_image(path).read((0, 0), shape=(352, 416))


def test_the_bad_files_of_the_shared_folder(shared_dir):
    bad = shared_dir / "formats/bad"
    assert "cannot be opened as an image: its compression 52479 is unknown" in refusal(bad / "unopenable.tiff")
    with (
        open_image(bad / "unreadable.svs") as image,
        pytest.raises(ValueError, match=r"unreadable\.svs cannot be read at \(0, 0\), 16 x 16 level-0 px: "),
    ):
        image.read((0, 0), shape=(16, 16))
    for name in ("small.svs", "boxes_0.dcm", "boxes_1.dcm"):
        with open_image(bad / name) as image:
            assert (image.shape, image.mpp.value) == ((16, 16), 0.499)
            assert image.read((0, 0), shape=(16, 16)).min() < 250


def test_a_user_mpp_that_is_no_number_is_refused(slide_path):
    for value in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="mpp must be a positive number of um/px"):
            open_image(slide_path, mpp=value)
    with open_image(slide_path) as image, pytest.raises(ValueError, match="cannot read -1 x 4 px"):
        image.read((0, 0), shape=(4, -1))
    with open_image(slide_path, mpp=1) as image, pytest.raises(ValueError, match="mpp must be a positive number"):
        image.read((0, 0), shape=(4, 4), mpp=0)
