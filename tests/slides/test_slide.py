"""Reading at any place and scale, against block means, ramps and brute force."""

import numpy as np
import pytest
from PIL import Image

from cvm_monai.slides import Level, open_image


def block_means(pixels, factor):
    height, width = (side // factor for side in pixels.shape[:2])
    return (
        pixels[: height * factor, : width * factor].astype(float).reshape(height, factor, width, factor, 3).mean((1, 3))
    )


def brute_force(pixels, origin, shape, scale):
    """Area means over a white surround, each output pixel by itself."""
    margin = 40
    padded = np.pad(pixels.astype(float), [(margin, margin)] * 2 + [(0, 0)], constant_values=255)
    result = np.zeros((*shape, 3))
    edges = np.arange(padded.shape[0] + 1), np.arange(padded.shape[1] + 1)
    for row in range(shape[0]):
        for column in range(shape[1]):
            weights = []
            for axis, start in ((0, origin[1] + row * scale), (1, origin[0] + column * scale)):
                low, high = start + margin, start + scale + margin
                weights.append(np.clip(np.minimum(edges[axis][1:], high) - np.maximum(edges[axis][:-1], low), 0, None))
            result[row, column] = np.einsum("r,c,rck->k", *weights, padded) / scale**2
    return result


def test_level_0_comes_back_exactly_with_white_beyond_the_border(slide_path, pixels):
    with open_image(slide_path) as image:
        assert image.shape == pixels.shape[:2]
        np.testing.assert_array_equal(image.read((0, 0), shape=image.shape), pixels)
        np.testing.assert_array_equal(image.read((37, 70), shape=(100, 130)), pixels[70:170, 37:167])
        corner = image.read((-3, 350), shape=(5, 7))
    np.testing.assert_array_equal(corner[:2, 3:], pixels[350:, :4])
    assert (corner[2:] == 255).all()
    assert (corner[:, :3] == 255).all()


def test_beyond_the_border_all_is_white(slide_path):
    with open_image(slide_path) as image:
        assert (image.read((5000, -900), shape=(8, 9)) == 255).all()
        assert image.read((0, 0), shape=(0, 4)).shape == (0, 4, 3)


def test_half_the_resolution_is_the_mean_of_2_x_2_pixels(slide_path, pixels):
    with open_image(slide_path, mpp=0.25) as image:
        half = image.read((0, 0), shape=(176, 208), mpp=0.5)
        np.testing.assert_allclose(half, block_means(pixels, 2), atol=0.51)
        part = image.read((64, 32), shape=(40, 50), mpp=0.5)
        np.testing.assert_allclose(part, block_means(pixels, 2)[16:56, 32:82], atol=0.51)
        quarter = image.read((0, 0), shape=(88, 104), mpp=1.0)
    np.testing.assert_allclose(quarter, block_means(pixels, 4), atol=1)


def test_half_the_resolution_of_a_real_slide(shared_dir):
    with open_image(shared_dir / "formats/slides/cmu_small_region.svs") as image:
        assert (image.shape, image.mpp.value, image.mpp.source) == ((2967, 2220), 0.499, "file")
        full = image.read((1000, 800), shape=(400, 600))
        assert full.std() > 10
        half = image.read((1000, 800), shape=(200, 300), mpp=0.998)
    np.testing.assert_allclose(half, block_means(full, 2), atol=0.51)


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
def test_whole_scales_at_any_place_agree_with_brute_force(tmp_path, pixels, scale):
    small = pixels[:30, :40]
    Image.fromarray(small).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png", mpp=0.5) as image:
        found = image.read((-3.3, 11.7), shape=(9, 18), mpp=0.5 * scale)
    np.testing.assert_allclose(found, brute_force(small, (-3.3, 11.7), (9, 18), scale), atol=0.51)


@pytest.mark.parametrize("scale", [0.4, 0.77, 1.0, 1.5, 2.0, 2.6, 4.0, 5.3])
@pytest.mark.parametrize("name", ["generic.tif", "pyramid.ome.tif"])
def test_a_ramp_reads_back_as_the_ramp(tmp_path, make_pyramid, name, scale):
    across, down = np.arange(256), np.arange(192)
    ramp = np.stack([np.tile(across, (192, 1)), np.tile(down[:, None], (1, 256)), np.full((192, 256), 99.0)], -1)
    path = make_pyramid(tmp_path / name, ramp.astype(np.uint8), ome="ome" in name)
    x, y = 31.6, 22.3
    with open_image(path, mpp=0.25) as image:
        assert [level.downsample for level in image.levels] == [1, 2, 4]
        found = image.read((x, y), shape=(25, 30), mpp=0.25 * scale).astype(float)
    centres_x, centres_y = x + (np.arange(30) + 0.5) * scale, y + (np.arange(25) + 0.5) * scale
    np.testing.assert_allclose(found[..., 0], np.tile(centres_x - 0.5, (25, 1)), atol=1)
    np.testing.assert_allclose(found[..., 1], np.tile(centres_y[:, None] - 0.5, (1, 30)), atol=1)
    assert (found[..., 2] == 99).all()


def test_enlarging_interpolates_between_pixel_centres_and_keeps_the_border(tmp_path):
    Image.fromarray(np.array([[[0] * 3, [100] * 3]], dtype=np.uint8)).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png", mpp=1.0) as image:
        assert image.read((0, 0), shape=(2, 4), mpp=0.5)[..., 0].tolist() == [[0, 25, 75, 100]] * 2
        assert image.read((-0.5, 0), shape=(1, 3), mpp=1.0)[0, :, 0].tolist() == [128, 50, 178]


def test_the_coarsest_level_that_is_not_coarser_is_read(tmp_path, make_pyramid, monkeypatch, pixels):
    with open_image(make_pyramid(tmp_path / "a.ome.tif", pixels, ome=True)) as image:
        assert image.levels == (Level(352, 416, 1), Level(176, 208, 2), Level(88, 104, 4))
        assert image.level_mpp == (0.25, 0.5, 1.0)
        levels = []
        read = image._source.read
        monkeypatch.setattr(image._source, "read", lambda level, *area: levels.append(level) or read(level, *area))
        for mpp in (0.1, 0.25, 0.49, 0.5, 0.995, 1.0, 7.0):
            image.read((0, 0), shape=(4, 4), mpp=mpp)
    assert levels == [0, 0, 0, 1, 2, 2, 2]  # 0.995: level 2 is 0.5 % coarser, which is let pass


def test_a_level_that_leaves_out_the_last_row_shows_no_white_before_the_border(tmp_path, make_pyramid):
    dark = np.full((255, 255, 3), 40, dtype=np.uint8)  # levels of 127 and 63 px
    with open_image(make_pyramid(tmp_path / "a.ome.tif", dark, ome=True)) as image:
        assert [level.downsample for level in image.levels] == [1, 2, 4]
        assert (image.read((0, 0), shape=(36, 36), mpp=0.25 * 7) == 40).all()  # to 252 of 255 px
        cut = image.read((0, 0), shape=(37, 37), mpp=0.25 * 7)
        assert cut[-1, 0].tolist() == [round(255 + (40 - 255) * 3 / 7)] * 3
        assert (cut[:-1, :-1] == 40).all()


def test_large_reads_are_made_of_blocks_and_equal_to_one_read(slide_path, pixels, monkeypatch):
    with open_image(slide_path, mpp=0.25) as image:
        whole = image.read((3.5, -2), shape=(120, 130), mpp=0.61)
        monkeypatch.setattr("cvm_monai.slides.slide.BLOCK_PIXELS", 5000)
        np.testing.assert_array_equal(image.read((3.5, -2), shape=(120, 130), mpp=0.61), whole)


def test_a_thumbnail_shows_the_whole_image_and_is_never_enlarged(slide_path, pixels):
    with open_image(slide_path) as image:
        small = image.thumbnail(104)
        np.testing.assert_allclose(small, block_means(pixels, 4), atol=1)
        assert image.thumbnail(9999).shape == pixels.shape
        with pytest.raises(ValueError, match="max_size must be at least 1 px, got 0"):
            image.thumbnail(0)


@pytest.mark.parametrize("size", [(1001, 1333), (46000, 32914)])
def test_a_rounded_side_is_still_halved_exactly(size):
    from cvm_monai.slides.resolution import downsample, make_levels

    for factor in (2, 4, 16):
        assert downsample(size, (size[0] // factor, size[1] // factor)) == factor
        assert downsample(size, (-(-size[0] // factor), -(-size[1] // factor))) == factor
    assert make_levels([(100, 100), (40, 40)])[1].downsample == 2.5


def test_what_is_no_level_of_the_pyramid_is_left_out(tmp_path, pixels):
    from cvm_monai.slides.resolution import pyramid_sizes

    assert pyramid_sizes([(1000, 2000), (500, 1000), (600, 600), (250, 500), (250, 500)]) == [0, 1, 3]
