"""What is written of a slide, read back by other programs' libraries."""

import csv
import json

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from cvm_monai.annotations import read_annotations
from cvm_monai.inference.whole_slide import ResultOptions, SlideModel, SlideOptions, predict_slides
from cvm_monai.inference.whole_slide.grid import TissueOnGrid, make_grid
from cvm_monai.inference.whole_slide.map_file import MapFile, labels, strips
from cvm_monai.inference.whole_slide.results import without_specks

from .conftest import PLAIN, Red, write_slide


def squares() -> np.ndarray:
    """Two squares of 40 and 20 px whose red is above a half, in an image of 160 x 200 px."""
    image = np.full((160, 200, 3), (60, 20, 60), np.uint8)
    image[20:60, 30:70, 0] = 200
    image[100:120, 150:170, 0] = 250
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp_path, red = tmp_path_factory.mktemp("results"), SlideModel(Red().eval(), mpp=0.5, **PLAIN)
    path = write_slide(tmp_path / "a.tif", squares(), mpp=0.25)  # the network sees it at 0.5
    options = SlideOptions(window=64, tissue="none", results=ResultOptions(min_area_um2=0, simplify_um=0))
    assert predict_slides(red, [path], tmp_path / "out", options=options, bar=False).finished == ["a"]
    return tmp_path / "out" / "a"


def test_regions_lie_over_the_slide_and_the_table_has_their_areas(folder):
    features = json.loads((folder / "regions.geojson").read_text())["features"]
    polygons = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert all(polygon.is_valid for polygon in polygons)
    assert [polygon.bounds for polygon in polygons] == [(30, 20, 70, 60), (150, 100, 170, 120)]
    means = [feature["properties"]["measurements"]["Mean probability"] for feature in features]
    assert means == [round(200 / 255, 4), round(250 / 255, 4)]
    with (folder / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["count"], row["area_um2"]) for row in rows] == [("target", "2", "125.00")]
    assert float(rows[0]["share_of_tissue"]) == 2000 / 32000


def test_the_pyramid_carries_the_networks_um_per_px_and_shows_the_slides_field(folder):
    with tifffile.TiffFile(folder / "probability.ome.tif") as file:
        assert file.pages.first.shape == (80, 100)
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
    found = tifffile.imread(folder / "probability.ome.tif")
    np.testing.assert_array_equal(found, squares()[::2, ::2, 0])


def test_tissue_is_saved_as_regions_and_can_be_given_back(folder):
    (region,) = read_annotations(folder / "tissue.geojson", classes={"tissue": "target"}).regions
    assert set(region.exterior) == {(0, 0), (200, 0), (200, 160), (0, 160)}


def test_the_overlay_and_the_record_are_there(folder):
    assert Image.open(folder / "overlay.png").size[0] > 300
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["tissue"]["fraction"]) == ("FINISHED", 1.0)
    assert record["classes"]["target"]["count"] == 2
    assert sorted(record["files"]) == sorted(
        path.name for path in folder.iterdir() if path.name not in ("run.json", ".lock")
    )


def test_the_picture_outlines_nothing_smaller_than_it_can_show():
    found = np.zeros((5, 6), np.uint8)
    found[:2, :2], found[4, 5], found[2:4, 3:6] = 1, 1, 2
    expected = found.copy()
    expected[4, 5] = 0
    np.testing.assert_array_equal(without_specks(found, least=4), expected)


def test_of_more_classes_the_likeliest_counts_and_background_wins_where_they_are_equal():
    values = np.array([[[200, 60, 100, 85, 0]], [[20, 120, 100, 85, 128]]], np.uint8).reshape(1, 2, 5)
    found, probability = labels(values)
    np.testing.assert_array_equal(found, [[1, 2, 1, 0, 2]])  # background: 35, 75, 55, 85, 127
    np.testing.assert_array_equal(probability, [[200, 120, 100, 85, 128]])


def test_a_coarse_map_in_strips_is_the_bilinear_resize_of_the_whole(tmp_path):
    import torch

    grid = make_grid((96, 64), scale=1.0, window=64)
    store = MapFile(tmp_path / "map", (6, 1, 4), {})
    coarse = np.random.default_rng(0).integers(0, 256, (6, 1, 4), dtype=np.uint8)
    store.write(0, coarse)
    store.finish_band(6)
    found = [values for _, values in strips(store, TissueOnGrid(None, grid), stride=16, height=7)]
    plane = torch.from_numpy(coarse[:, 0].astype(np.float32))[None, None]
    expected = torch.nn.functional.interpolate(plane, scale_factor=16, mode="bilinear")[0, 0].numpy()
    assert np.abs(np.concatenate(found)[:, 0] - expected).max() <= 0.501
