"""Slides that QuPath crops to their scanned part: by `bounds`, files hold what they would of the cropped image."""

import json

import numpy as np
import pytest

from cvm_monai.annotations import Annotations, Region, write_geojson
from cvm_monai.inference.whole_slide import SlideOptions, predict_slides

from .conftest import write_slide

pytestmark = pytest.mark.usefixtures("no_picture")
PART = (100, 50, 192, 128)


def scanned():
    """White but for a part with two blots whose red is above a half."""
    image = np.full((256, 384, 3), (60, 20, 60), np.uint8)
    image[60:90, 110:150, 0] = 200
    image[70:80, 120:130, 0] = 60  # a hole
    image[150:160, 250:280, 0] = 250
    return image


def cropped(image):
    """The slide as QuPath shows it."""
    x, y, width, height = PART
    return image[y : y + height, x : x + width]


@pytest.fixture
def slide(partly_scanned, tmp_path):
    return partly_scanned(tmp_path / "a.mrxs", scanned(), PART)


def predict(model, slide, out, **options):
    lines = []
    settings = SlideOptions(**{"window": 128, "tissue": "none"} | options)
    report = predict_slides(model, [slide], out, options=settings, say=lines.append, bar=False)
    assert report.failed == {}
    return lines


def rings(out, name="regions"):
    """The rings of each region, each from its smallest vertex."""
    features = json.loads((out / "a" / f"{name}.geojson").read_text())["features"]
    found = [[ring[:-1] for ring in feature["geometry"]["coordinates"]] for feature in features]
    return [[ring[(at := ring.index(min(ring))) :] + ring[:at] for ring in polygon] for polygon in found]


def test_regions_lie_where_they_would_in_the_cropped_image(red, slide, tmp_path):
    lines = predict(red, slide, tmp_path / "out", origin="bounds")
    predict(red, write_slide(tmp_path / "crop" / "a.tif", cropped(scanned())), tmp_path / "crop_out")
    assert rings(tmp_path / "out") == rings(tmp_path / "crop_out")
    outer, hole = rings(tmp_path / "out")[0]
    assert (outer[0], hole[0]) == ([10, 10], [20, 20])
    assert rings(tmp_path / "out", "tissue") == [[[[-100, -50], [284, -50], [284, 206], [-100, 206]]]]
    assert [line for line in lines if "coordinates count from (100, 50)" in line]
    assert not [line for line in lines if "--no-crop" in line]


def test_by_default_coordinates_count_from_level_0_and_a_warning_says_so(red, slide, tmp_path):
    lines = predict(red, slide, tmp_path / "out")
    assert rings(tmp_path / "out")[0][0][0] == [110, 60]
    assert [line for line in lines if line.startswith("warning: ") and "give --origin bounds" in line]


def test_a_mask_of_tissue_drawn_in_qupath_is_read_where_it_was_drawn(red, slide, tmp_path):
    around = Region(((8, 8), (56, 8), (56, 48), (8, 48)), (), 1)  # the first blot, as QuPath shows it
    write_geojson(tmp_path / "tissue.geojson", Annotations((), (around,)))
    predict(red, slide, tmp_path / "out", origin="bounds", tissue=str(tmp_path / "tissue.geojson"))
    (polygon,) = rings(tmp_path / "out")
    assert polygon[0][0] == [10, 10]
    (drawn,) = rings(tmp_path / "out", "tissue")
    x, y = zip(*drawn[0], strict=True)
    np.testing.assert_allclose([min(x), min(y), max(x), max(y)], [8, 8, 56, 48], atol=8)  # drawn at 8 um/px: 16 px


def test_results_of_the_other_origin_are_refused_by_name(red, slide, tmp_path):
    predict(red, slide, tmp_path / "out")
    with pytest.raises(ValueError, match=r"origin was nothing and is \[100, 50\]"):
        predict(red, slide, tmp_path / "out", origin="bounds")


def test_a_slide_that_was_scanned_as_a_whole_is_the_same_by_both(red, partly_scanned, tmp_path):
    slide = partly_scanned(tmp_path / "a.mrxs", scanned(), None)
    predict(red, slide, tmp_path / "out")
    lines = predict(red, slide, tmp_path / "out", origin="bounds")
    assert lines[-1].startswith("slides: 0 predicted, 1 finished before")


def test_an_unknown_origin_is_refused():
    with pytest.raises(ValueError, match="--origin must be one of level0, bounds, got 'qupath'"):
        SlideOptions(origin="qupath")
