"""Pyramids written from strips: what other readers see in them, and what a failure leaves."""

import resource
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import openslide
import pytest
import tifffile

from cvm_monai.slides import open_image, write_pyramid
from cvm_monai.slides.pyramid import halve

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (301, 402, 3), dtype=np.uint8)


def strips(pixels, *heights):
    """The picture in strips of these heights, the rest in one."""
    start = 0
    for height in heights:
        yield pixels[start : start + height]
        start += height
    yield pixels[start:]


def test_halving_takes_means_and_an_odd_border_stands_for_two():
    grey = np.array([[0, 1, 10], [2, 4, 30], [5, 6, 9]], dtype=np.uint8)
    assert halve(grey).tolist() == [[2, 20], [6, 9]]
    assert halve(RGB).shape == (151, 201, 3)
    expected = RGB[:300].astype(float).reshape(150, 2, 201, 2, 3).mean((1, 3))
    np.testing.assert_allclose(halve(RGB)[:150], expected, atol=0.5)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "none"])
@pytest.mark.parametrize("ome", [True, False])
@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]], ids=["rgb", "grey"])
def test_every_level_is_the_mean_of_the_one_before(tmp_path, pixels, ome, compression):
    path = tmp_path / "a.ome.tif"
    rows = strips(pixels, 1, 63, 100, 2)
    count = write_pyramid(path, pixels.shape, rows, mpp=0.5, tile=64, ome=ome, compression=compression)
    assert count == 4
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
        assert tiff.pages.first.is_tiled
        assert tiff.is_ome is ome
    np.testing.assert_array_equal(levels[0], pixels)
    for upper, lower in pairwise(levels):
        np.testing.assert_array_equal(lower, halve(upper))
    assert len(levels) == 4
    with open_image(path) as image:
        assert [level.downsample for level in image.levels] == [1, 2, 4, 8]
        assert image.mpp.value == pytest.approx(0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ome.tif"]


def test_openslide_sees_the_levels_and_the_um_per_px_of_a_generic_pyramid(tmp_path):
    write_pyramid(tmp_path / "a.tif", RGB.shape, [RGB], mpp=0.25, tile=64, ome=False, compression="jpeg")
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((402, 301), (201, 151), (101, 76), (51, 38))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)


def test_the_number_of_levels_can_be_chosen_and_um_per_px_left_out(tmp_path):
    assert write_pyramid(tmp_path / "a.tif", RGB.shape, [RGB], mpp=None, levels=2) == 2
    with open_image(tmp_path / "a.tif") as image:
        assert (len(image.levels), image.mpp.value) == (2, None)
    assert write_pyramid(tmp_path / "b.tif", (1, 1), [RGB[:1, :1, 0]], mpp=1, levels=5) == 1


@pytest.mark.parametrize(
    "shape, rows, options, message",
    [
        ((301, 402, 3), [RGB[:300]], {}, "the strips have 300 of 301 rows"),
        ((300, 402, 3), [RGB], {}, "the strips have more than 300 rows"),
        ((301, 402), [RGB], {}, r"the strips must be \(h, 402\) uint8, got \(301, 402, 3\) uint8"),
        ((301, 402, 3), [RGB / 255], {}, r"must be \(h, 402, 3\) uint8, got \(301, 402, 3\) float64"),
        ((301, 402, 4), [RGB], {}, r"shape must be \(height, width\) or \(height, width, 3\)"),
        ((301, 402, 3), [RGB], {"tile": 100}, "tile must be a multiple of 16, got 100"),
        ((301, 402, 3), [RGB], {"levels": 0}, "levels must be at least 1, got 0"),
        ((301, 402, 3), [RGB], {"mpp": -1}, "mpp must be a positive number of um/px, got -1"),
        ((301, 402, 3), [RGB], {"compression": "zip"}, "compression must be one of zlib, lzw, jpeg, none, got 'zip'"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_what_was_there(tmp_path, shape, rows, options, message):
    path = tmp_path / "a.tif"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        write_pyramid(path, shape, rows, **{"mpp": 0.5, "tile": 64} | options)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_an_error_of_the_strips_comes_through(tmp_path):
    def rows():
        yield RGB[:100]
        raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="the network failed"):
        write_pyramid(tmp_path / "a.tif", RGB.shape, rows(), mpp=0.5, tile=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="this system does not say how much memory was used")
def test_memory_does_not_grow_with_the_height(tmp_path):
    script = """
        import resource, sys
        import numpy as np
        from cvm_monai.slides import open_image, write_pyramid
        height = int(sys.argv[2])
        rows = (np.full((256, 2048, 3), number % 250, dtype=np.uint8) for number in range(height // 256))
        write_pyramid(sys.argv[1], (height, 2048, 3), rows, mpp=0.5, tile=256, compression="none")
        with open_image(sys.argv[1]) as image:
            image.read((0, 0), shape=(height // 64, 2048 // 64), mpp=32)
            image.read((0, 100), shape=(height // 256, 8), mpp=0.5)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", textwrap.dedent(script), tmp_path / "a.tif", str(height)]))
        for height in (1024, 16384)  # 6 and 96 MiB of RGB
    ]
    assert peaks[1] - peaks[0] < 40 * 1024
