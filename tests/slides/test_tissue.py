"""Where tissue is found, measured and taken from the user."""

import json

import numpy as np
import pytest
from PIL import Image

from cvm_monai.slides import TissueMask, open_image, read_tissue_mask, tissue_mask

GLASS, PINK = (242, 241, 243), (205, 140, 190)


def slide(tmp_path, draw, *, shape=(800, 1200), noise=3, mpp=4.0):
    """An image, of 4 um/px unless said otherwise, of glass with noise, on which `draw` puts tissue."""
    pixels = np.full((*shape, 3), GLASS, dtype=np.int64)
    draw(pixels)
    pixels += np.random.default_rng(0).integers(-noise, noise + 1, pixels.shape)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / "slide.png", compress_level=1)
    return open_image(tmp_path / "slide.png", mpp=mpp)


def two_pieces(pixels):
    pixels[100:500, 200:600] = PINK
    pixels[250:270, 300:320] = GLASS  # a hole of 80 x 80 um
    pixels[350:450, 400:500] = GLASS  # a hole of 400 x 400 um
    pixels[650:660, 1000:1010] = PINK  # dirt of 40 x 40 um
    pixels[:, :20] = (5, 5, 5)  # the scanner's black border


def test_tissue_is_found_with_small_holes_filled_and_specks_and_black_borders_left_out(tmp_path):
    with slide(tmp_path, two_pieces) as image:
        found = tissue_mask(image)
    assert (found.mask.shape, found.scale, found.decided) == ((400, 600), (2.0, 2.0), "otsu")
    expected = np.zeros((400, 600), dtype=bool)
    expected[50:250, 100:300] = True
    expected[175:225, 200:250] = False
    assert (found.mask != expected).sum() < 0.02 * expected.sum()
    assert not found.mask[300:].any()
    assert found.mask[130, 155]
    assert not found.mask[:, :10].any()


def test_the_limits_of_area_move_what_is_kept(tmp_path):
    with slide(tmp_path, two_pieces) as image:
        assert tissue_mask(image, min_area_um2=500).mask[327, 502]
        assert not tissue_mask(image, max_hole_um2=3000).mask[130, 155]
        assert tissue_mask(image, max_hole_um2=200_000).mask[200, 225]
        for name in ("min_area_um2", "max_hole_um2"):
            with pytest.raises(ValueError, match=f"{name} must be 0 or more um2, got -1"):
                tissue_mask(image, **{name: -1})
        with pytest.raises(ValueError, match=r"um/px of the tissue mask must be a positive number, got 0"):
            tissue_mask(image, mpp=0)


def test_a_slide_of_glass_has_no_tissue(tmp_path):
    with slide(tmp_path, lambda pixels: None, shape=(400, 600)) as image:
        found = tissue_mask(image)
    assert (found.decided, found.threshold, found.fraction) == ("all glass", 12, 0)


def test_a_slide_that_is_all_tissue_is_all_kept(tmp_path):
    def draw(pixels):
        pixels[:] = PINK
        pixels[:, ::7] = (90, 40, 130)

    with slide(tmp_path, draw, shape=(400, 600)) as image:
        found = tissue_mask(image)
    assert (found.decided, found.threshold, found.fraction) == ("all tissue", 12, 1)


def test_one_flat_colour_is_decided_too(tmp_path):
    for colour, decided, fraction in ((GLASS, "all glass", 0), (PINK, "all tissue", 1)):
        Image.new("RGB", (90, 70), colour).save(tmp_path / "flat.png")
        with open_image(tmp_path / "flat.png") as image:
            found = tissue_mask(image)
        assert (found.decided, found.fraction) == (decided, fraction)


@pytest.mark.parametrize("mpp", [0.1, 0.2426, 0.26, 0.99])
def test_the_smallest_piece_is_never_larger_than_the_image_allows(tmp_path, mpp):
    """300 x 400 px at 0.1 um/px are 1,200 um2, less than the 10,000 that a piece of tissue otherwise needs."""

    def draw(pixels):
        pixels[50:250, 60:200] = (190, 110, 160)

    with slide(tmp_path, draw, shape=(300, 400), mpp=mpp) as image:
        found = tissue_mask(image)
        assert found.fraction == pytest.approx(200 * 140 / (300 * 400), rel=0.05)
        assert found.covers(80, 70, 100, 160) > 0.99


def test_specks_in_a_small_region_are_dirt_still(tmp_path):
    def draw(pixels):
        pixels[100:120, 100:120] = (190, 110, 160)

    with slide(tmp_path, draw, shape=(300, 400), mpp=0.25) as image:
        assert tissue_mask(image).fraction == 0


def test_without_um_per_px_the_longer_side_of_the_view_is_limited(tmp_path, monkeypatch):
    with slide(tmp_path, two_pieces) as known, open_image(known.path) as image:
        found = tissue_mask(image)
        assert found.scale == (1.0, 1.0)
        assert found.fraction == pytest.approx(tissue_mask(known).fraction, rel=0.05)
        monkeypatch.setattr("cvm_monai.slides.tissue.UNKNOWN_PIXELS", 300)
        assert tissue_mask(image).mask.shape == (200, 300)


def test_a_threshold_of_the_user_is_used(tmp_path):
    with slide(tmp_path, two_pieces) as image:
        found = tissue_mask(image, threshold=200)
    assert (found.decided, found.threshold, found.fraction) == ("user", 200, 0)


def test_covers_gives_the_part_of_a_rectangle_that_is_tissue():
    mask = np.array([[True, False, False], [True, True, False]])
    tissue = TissueMask(mask, (10.0, 20.0), "user")
    assert tissue.covers(0, 0, 20, 20) == 1
    assert tissue.covers(0, 0, 60, 20) == pytest.approx(3 / 6)
    assert tissue.covers(10, 5, 20, 10) == pytest.approx(0.75)
    assert tissue.covers(-20, -10, 40, 20) == pytest.approx(0.25)
    assert tissue.covers(500, 500, 10, 10) == 0
    xs = np.array([0, 20, 40])
    np.testing.assert_allclose(tissue.covers(xs, np.array([[0], [10]]), 20, 10), mask, atol=1e-12)


def test_covers_agrees_with_counting_pixels():
    rng = np.random.default_rng(1)
    mask = rng.random((13, 17)) > 0.5
    tissue = TissueMask(mask, (3.0, 3.0), "user")
    full = mask.repeat(3, 0).repeat(3, 1)
    for _ in range(50):
        x, y = rng.integers(0, 40), rng.integers(0, 30)
        width, height = rng.integers(1, 51 - x), rng.integers(1, 39 - y)
        assert tissue.covers(x, y, width, height) == pytest.approx(full[y : y + height, x : x + width].mean(), abs=1e-9)


def polygon(x0, y0, x1, y1, name=None):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    properties = {"classification": {"name": name}} if name else {}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def test_regions_of_any_class_are_tissue_but_background_and_exclusion(tmp_path):
    features = [
        polygon(0, 0, 400, 200, "Tumor: Invasive"),
        polygon(0, 400, 400, 800),
        polygon(800, 0, 1200, 800, "Region*"),
        polygon(1000, 0, 1200, 800, "Exclusion"),
        polygon(0, 600, 400, 800, "background"),
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with slide(tmp_path, lambda pixels: None) as image:
        found = read_tissue_mask(tmp_path / "a.geojson", image)
    expected = np.zeros((400, 600), dtype=bool)
    expected[:100, :200] = expected[200:300, :200] = expected[:, 400:500] = True
    np.testing.assert_array_equal(found.mask, expected)
    assert (found.scale, found.decided, found.threshold) == ((2.0, 2.0), "user", None)


def test_elements_of_the_digital_slide_archive_are_tissue_by_label_group_or_neither(tmp_path):
    def rectangle(x, **names):
        return {"type": "rectangle", "center": [x, 100, 0], "width": 200, "height": 200, **names}

    elements = [
        rectangle(100, label={"value": "Tissue 1"}),
        rectangle(500, group="My group", label={"value": "other"}),
        rectangle(900),
        rectangle(950, label={"value": "exclusion"}),
    ]
    (tmp_path / "a.json").write_text(json.dumps({"annotation": {"name": "mine", "elements": elements}}))
    with slide(tmp_path, lambda pixels: None) as image:
        found = read_tissue_mask(tmp_path / "a.json", image)
    expected = np.zeros((400, 600), dtype=bool)
    expected[:100, :100] = expected[:100, 200:300] = expected[:100, 400:425] = True
    np.testing.assert_array_equal(found.mask, expected)


def test_regions_of_another_slide_are_refused(tmp_path):
    (tmp_path / "a.geojson").write_text(json.dumps([polygon(1200, 0, 2000, 800)]))
    sentence = r"nothing in it lies inside .*slide\.png of 1200 x 800 px.*another image"
    with slide(tmp_path, lambda pixels: None) as image, pytest.raises(ValueError, match=sentence):
        read_tissue_mask(tmp_path / "a.geojson", image)


def test_a_file_without_regions_is_refused(tmp_path):
    (tmp_path / "a.geojson").write_text(json.dumps([polygon(0, 0, 9, 9, "exclusion")]))
    with slide(tmp_path, lambda pixels: None, shape=(64, 64)) as image:
        with pytest.raises(ValueError, match=r"a\.geojson has no region that could be tissue"):
            read_tissue_mask(tmp_path / "a.geojson", image)
        (tmp_path / "a.geojson").write_text("{")
        with pytest.raises(ValueError, match=r"a\.geojson"):
            read_tissue_mask(tmp_path / "a.geojson", image)


def test_a_label_image_of_any_size_that_shows_the_whole_slide(tmp_path):
    labels = np.zeros((16, 24), dtype=np.uint8)
    labels[3, 4] = 7
    Image.fromarray(labels).save(tmp_path / "mask.png")
    with slide(tmp_path, lambda pixels: None) as image:
        found = read_tissue_mask(tmp_path / "mask.png", image)
        assert found.covers(200, 150, 50, 50) == 1
        assert found.mask.sum() == 1
        Image.fromarray(labels[:, :20]).save(tmp_path / "cut.png")
        with pytest.raises(ValueError, match=r"cut\.png: a mask of 20 x 16 px does not have the shape of .*1200 x 800"):
            read_tissue_mask(tmp_path / "cut.png", image)


def test_the_tissue_of_a_real_slide(shared_dir):
    with open_image(shared_dir / "formats/slides/cmu_small_region.svs") as image:
        found = tissue_mask(image)
        assert found.decided == "otsu"
        view = image.read_scaled((0, 0), shape=found.mask.shape, scale=found.scale)
    assert 0.2 < found.fraction < 0.5
    assert view[~found.mask].mean() > 230 > view[found.mask].mean()
