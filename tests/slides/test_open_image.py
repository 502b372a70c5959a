"""What opens, what is decoded, what is refused, and how handles live."""

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.slides import open_image
from cvm_monai.slides.tiff_source import ByteCache, Segments, TiffSource


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_flat_images_open_and_are_decoded_once(tmp_path, pixels, name, monkeypatch):
    Image.fromarray(pixels).save(tmp_path / name)
    with open_image(tmp_path / name) as image:
        assert image.levels[0].downsample == 1
        np.testing.assert_array_equal(image.read((5, 6), shape=(20, 30)), pixels[6:26, 5:35])
        monkeypatch.setattr("cvm_monai.slides.source.decode_flat", lambda path: pytest.fail("decoded twice"))
        image.read((0, 0), shape=(20, 30))


@pytest.mark.parametrize(
    "options",
    [
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "tile": (64, 64)},
        {"tile": (48, 80), "compression": "lzw"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 50},
        {"byteorder": ">", "rowsperstrip": 100},
        {"bigtiff": True, "compression": "lzma"},
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [8, 16])
def test_tiffs_of_every_layout_give_the_same_pixels(tmp_path, pixels, options, bits):
    stored = pixels if bits == 8 else pixels.astype(np.uint16) * 257
    stored = np.moveaxis(stored, 2, 0) if "planarconfig" in options else stored
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", metadata=None, **options)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read((0, 0), shape=image.shape), pixels)


def test_grey_and_transparent_tiffs_become_rgb_on_white(tmp_path):
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8)
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="minisblack", compression="zlib")
    tifffile.imwrite(tmp_path / "inverted.tif", ~grey, photometric="miniswhite", compression="zlib")
    for name in ("grey.tif", "inverted.tif"):
        with open_image(tmp_path / name) as image:
            np.testing.assert_array_equal(image.read((0, 0), shape=(64, 64)), np.dstack([grey] * 3))
    rgba = np.full((16, 16, 4), (0, 0, 0, 51), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "alpha.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16))
    with open_image(tmp_path / "alpha.tif") as image:
        assert image.read((0, 0), shape=(1, 1)).tolist() == [[[204, 204, 204]]]


def decoded_bytes(monkeypatch):
    """Lengths of the stored tiles or strips that are decoded from now on."""
    seen = []
    fetch = TiffSource._bytes
    monkeypatch.setattr(TiffSource, "_bytes", lambda self, *place: seen.append(place) or fetch(self, *place))
    return seen


def test_only_the_tiles_touched_are_decoded_and_each_once(tmp_path, make_pyramid, pixels, monkeypatch):
    path = make_pyramid(tmp_path / "a.ome.tif", pixels, ome=True)
    with open_image(path) as image:
        seen = decoded_bytes(monkeypatch)
        image.read((60, 70), shape=(50, 10))  # columns 0 and 1, row 1 of tiles of 64
        assert len(seen) == 2
        image.read((64, 64), shape=(64, 64))
        assert len(seen) == 2
        image.read((0, 0), shape=(88, 104), mpp=1.0)  # all of level 2: 2 x 2 tiles
        assert len(seen) == 6
        image.read((9999, 0), shape=(10, 10))
        assert len(seen) == 6


def test_only_the_strips_touched_are_decoded(tmp_path, pixels, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", rowsperstrip=16, compression="lzw")
    with open_image(tmp_path / "a.tif") as image:
        seen = decoded_bytes(monkeypatch)
        image.read((0, 30), shape=(10, 400))
        assert len(seen) == 2


def test_one_uncompressed_strip_for_all_is_read_in_pieces(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr("cvm_monai.slides.tiff_source.RAW_BYTES", 20 * 416 * 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", rowsperstrip=352)
    with open_image(tmp_path / "a.tif") as image:
        seen = decoded_bytes(monkeypatch)
        np.testing.assert_array_equal(image.read((7, 30), shape=(10, 99)), pixels[30:40, 7:106])
        assert sum(count for _, count in seen) <= 40 * 416 * 3


def test_a_tile_without_bytes_is_white(tmp_path, make_pyramid, pixels, monkeypatch):
    with open_image(make_pyramid(tmp_path / "a.ome.tif", pixels, ome=True)) as image:
        level = image._source._levels[0]
        counts = (0, *level.counts[1:])
        sparse = Segments(level.size, level.step, level.offsets, counts, 1, level.decode, level.photometric)
        monkeypatch.setattr(image._source, "_levels", [sparse, *image._source._levels[1:]])
        found = image.read((0, 0), shape=(64, 128))
    assert (found[:, :64] == 255).all()
    np.testing.assert_array_equal(found[:, 64:], pixels[:64, 64:128])


def test_the_cache_holds_no_more_bytes_than_told_and_keeps_what_was_used_last():
    cache = ByteCache(100)
    for key in "abc":
        cache.put(key, np.zeros(40, dtype=np.uint8))
        assert cache.get("b") is None or cache.held <= 100
    assert (cache.get("a"), cache.held) == (None, 80)
    cache.get("b")
    cache.put("d", np.zeros(40, dtype=np.uint8))
    assert cache.get("c") is None
    assert cache.get("b") is not None
    cache.put("large", np.zeros(500, dtype=np.uint8))
    assert cache.get("large") is not None
    assert cache.held == 500


def test_a_pickled_handle_opens_the_file_again(slide_path, pixels):
    with open_image(slide_path, mpp=0.3) as image:
        data = pickle.dumps(image)
        assert len(data) < 1000
    with pickle.loads(data) as copy:
        assert copy.mpp.value == 0.3
        np.testing.assert_array_equal(copy.read((1, 2), shape=(30, 40)), pixels[2:32, 1:41])


def mean_of(image):
    return float(image.read((0, 0), shape=image.shape).mean())


def test_a_spawned_process_reads_through_a_handle(tmp_path, make_pyramid, pixels):
    path = make_pyramid(tmp_path / "a.ome.tif", pixels, ome=True)
    with open_image(path) as image, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(mean_of, (image,)) == pytest.approx(pixels.mean())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_children_and_their_parent_read_at_once(slide_path, pixels):
    image = open_image(slide_path)
    image.read((0, 0), shape=(8, 8))
    pipes = []
    for child in range(3):
        reader, writer = os.pipe()
        if os.fork() == 0:
            good = all((image.read((0, y), shape=(9, 400)) == pixels[y : y + 9, :400]).all() for y in range(0, 340, 3))
            os.write(writer, b"1" if good and image._source is not None else b"0")
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
        del child
    for y in range(0, 340, 3):
        np.testing.assert_array_equal(image.read((0, y), shape=(9, 400)), pixels[y : y + 9, :400])
    assert [os.read(pipe, 1) for pipe in pipes] == [b"1"] * 3
    for pipe in pipes:
        os.close(pipe)
        os.wait()
    image.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_may_close_its_handle_without_closing_its_parents(slide_path, pixels):
    with open_image(slide_path) as image:
        child = os.fork()
        if child == 0:
            image.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_array_equal(image.read((0, 0), shape=(9, 9)), pixels[:9, :9])


def test_threads_share_a_handle(slide_path, pixels, monkeypatch):
    monkeypatch.setattr(
        "cvm_monai.slides.tiff_source.CACHE_BYTES", 64 * 64 * 3
    )  # so that tiles are fetched all the time
    places = np.random.default_rng(0).integers(0, 300, (200, 2))
    started = threading.Barrier(4)

    def read(places):
        started.wait()
        return all(
            (image.read((x, y), shape=(40, 40)) == pixels[y : y + 40, x : x + 40]).all() for x, y in places.tolist()
        )

    with open_image(slide_path) as image, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, np.array_split(places, 4))) == [True] * 4


def test_a_closed_handle_says_so(slide_path):
    image = open_image(slide_path)
    image.close()
    image.close()
    with pytest.raises(ValueError, match=f"{slide_path.name} is closed"):
        image.read((0, 0), shape=(2, 2))


def test_label_and_macro_images_cannot_be_reached(shared_dir):
    with open_image(shared_dir / "formats/slides/cmu_small_region.svs") as image:
        assert not [name for name in dir(image) if "label" in name or "macro" in name or "associated" in name]
        assert len(image.levels) == 1


BOUNDS = {"openslide.bounds-x": "100", "openslide.bounds-y": "50", "openslide.bounds-width": "300"}


@pytest.mark.parametrize(
    "properties, warned",
    [
        ({**BOUNDS, "openslide.bounds-height": "200"}, True),
        ({**dict.fromkeys(BOUNDS, "0"), "openslide.bounds-width": "416", "openslide.bounds-height": "352"}, False),
        (BOUNDS, False),
        ({}, False),
    ],
)
def test_a_slide_that_qupath_would_crop_is_warned_about(tmp_path, monkeypatch, properties, warned):
    class Slide:
        level_dimensions, level_downsamples = ((416, 352),), (1.0,)

        def __init__(self, path):
            self.properties = {"openslide.vendor": "mirax", **properties}

        def close(self):
            pass

    monkeypatch.setattr("openslide.OpenSlide", Slide)
    (tmp_path / "a.mrxs").write_bytes(b"x")
    with open_image(tmp_path / "a.mrxs") as image:
        text = " ".join(image.warnings)
    assert ("the 300 x 200 px at (100, 50) were scanned" in text) == warned
    assert ("with --no-crop" in text) == warned
