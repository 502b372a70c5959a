"""Regions beyond one pass of the network go tile by tile, with the results of whole slides."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from PIL import Image
from shapely.geometry import shape

from cvm_monai.inference.whole_slide import ResultOptions, SlideModel, SlideOptions, predict_slides
from cvm_monai.interactive.current import ActiveModel, ModelLoader, recorded_knobs
from cvm_monai.interactive.outlines import Outlines
from cvm_monai.interactive.prediction import Prediction, entropy, segment_large
from cvm_monai.interactive.window import Window
from cvm_monai.label_app.answer import Segmenter
from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.slides import open_image


class Red(torch.nn.Module):
    """Sure of red, by the mean of 3 x 3 pixels, so that the borders of tiles would show; watches its inputs' sizes."""

    seen: list[tuple[int, ...]]

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        smooth = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        red = 20 * (smooth[:, :1] - smooth[:, 2:])
        return torch.cat([-red, red], dim=1)


@pytest.fixture
def network():
    found = Red().eval()
    found.seen = []
    return found


@pytest.fixture
def current(tmp_path, network):
    return ActiveModel(network, tmp_path / "run", recorded_knobs(None), "red")


@pytest.fixture
def segmenter(tmp_path, monkeypatch, current):
    found = Segmenter(read_settings({}, studies=tmp_path), ModelLoader(tmp_path / "work"))
    monkeypatch.setattr(found.current, "get", lambda: current)
    monkeypatch.setattr("cvm_monai.interactive.prediction.MOST", 2**12)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return found


def pixels():
    """200 x 240 px: white glass, blue tissue in columns 60 to 219, in it a red rectangle; two red specks of dirt."""
    found = np.full((200, 240, 3), 250, np.uint8)
    found[:, 60:220] = (60, 60, 200)
    found[40:140, 90:190] = (200, 30, 60)
    found[20:22, 10:12] = found[150:152, 30:32] = (200, 30, 60)
    return found


@pytest.fixture
def image(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "slide.png")
    return tmp_path / "slide.png"


def rectangle():
    mask = np.zeros((200, 240), np.uint8)
    mask[40:140, 90:190] = 1
    mask[[40, 40, 139, 139], [90, 189, 90, 189]] = 0  # four of nine pixels around a corner are red
    return mask


def test_a_large_image_is_tiled_and_its_glass_left_out(image, current, network, tmp_path):
    with open_image(image) as opened:
        window = Window(0, 0, 240, 200)
        found = segment_large(
            opened, window, current=current, factor=1.0, names=("b", "t"), folder=tmp_path, window_px=64
        )
    np.testing.assert_array_equal(found.labels, rectangle())
    assert max(side for shape in network.seen for side in shape[2:]) == 64
    assert len(network.seen) > 10


def test_the_regions_are_those_of_whole_slides(image, current, network, tmp_path):
    names, window = ("background", "target"), Window(0, 0, 240, 200)
    with open_image(image, mpp=1.0) as opened:
        found = segment_large(opened, window, current=current, factor=1.0, names=names, folder=tmp_path, window_px=64)
    options = SlideOptions(window=64, mpp=1.0, num_workers=0, results=ResultOptions(min_area_um2=0, simplify_um=0))
    report = predict_slides(SlideModel(network), [image], tmp_path / "out", options=options, bar=False)
    assert report.finished == ["slide"]
    document = json.loads((tmp_path / "out" / "slide" / "regions.geojson").read_text())
    expected = [shape(feature["geometry"]) for feature in document["features"]]
    assert len(expected) == 1
    assert outlines(found) == [polygon.normalize() for polygon in expected]


def test_an_answer_of_a_large_image_leaves_no_file_behind(segmenter, image, tmp_path):
    file, facts = segmenter({"simplify": 0}, image, method="network")
    np.testing.assert_array_equal(np.array(Image.open(file)), rectangle())
    assert (facts["region"], facts["regions"]) == ([0, 0, 240, 200], 1)
    (feature,) = facts["geojson"]["features"]
    assert shape(feature["geometry"]).bounds == (90, 40, 190, 140)
    assert list((tmp_path / "scratch").iterdir()) == [Path(file)]


def test_a_large_region_lies_where_it_was_asked_for(segmenter, image):
    file, facts = segmenter({"location": [70, 20], "size": [130, 150], "simplify": 0}, image, method="network")
    np.testing.assert_array_equal(np.array(Image.open(file)), rectangle()[20:170, 70:200])
    (feature,) = facts["geojson"]["features"]
    assert shape(feature["geometry"]).bounds == (90, 40, 190, 140)


def test_at_half_the_size_the_label_image_is_the_image_s_own(segmenter, image, current):
    current.knobs["scale"] = 0.5
    file, facts = segmenter({"simplify": 0}, image, method="network")
    found = np.array(Image.open(file))
    assert (found.shape, facts["working_px"]) == ((200, 240), 2.0)
    assert (found != rectangle()).mean() < 0.01


def test_a_label_image_that_is_too_large_is_refused_before_the_network_runs(segmenter, image, network, monkeypatch):
    monkeypatch.setattr("cvm_monai.interactive.outlines.MAX_LABEL_PIXELS", 10000)
    with pytest.raises(ValueError, match=r"a label image of 240 x 200 px is too large: ask for polygons"):
        segmenter({}, image, method="network")
    assert network.seen == []
    assert segmenter({}, image, method="network", write=False)[1]["regions"] == 1


def test_strips_of_rows_give_the_regions_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    labels = (rng.random((37, 23)) > 0.6).astype(np.uint8)
    found = Prediction(labels, None, Window(5, 7, 46, 74), (200, 200), ("background", "target"))
    whole = outlines(found)
    monkeypatch.setattr("cvm_monai.interactive.prediction.STRIP", 4 * 23)
    assert len(list(found.strips())) == 10
    assert outlines(found) == whole


def outlines(found):
    """Normalised polygons of the regions."""
    kept = Outlines(found, simplify=0).regions
    return [shapely.Polygon(result.region.exterior, result.region.holes).normalize() for result in kept]


def test_entropy_in_bits():
    probabilities = np.array([[[1.0, 0.5, 0.25]], [[0.0, 0.5, 0.75]]])
    np.testing.assert_allclose(entropy(probabilities), [[0.0, 1.0, 0.811278]], atol=1e-6)
