"""The benchmark of alternatives: a random walker and classifiers from points, and the table that compares them."""

import numpy as np
import pytest
from PIL import Image as PilImage

from cvm_monai.annotations import Annotations, Point, write_geojson
from cvm_monai.data.datalist import Case

BENCHMARK = "alternatives"


@pytest.fixture
def case(tmp_path):
    """The left half is dark and the target; one point of each class."""
    pixels = np.full((64, 64, 3), 220, dtype=np.uint8)
    pixels[:, :32] = (120, 40, 120)
    PilImage.fromarray(pixels).save(tmp_path / "a.png")
    PilImage.fromarray((pixels[..., 0] < 200).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    points = tmp_path / "a.geojson"
    write_geojson(points, Annotations((Point(8.5, 20.5, 1), Point(50.5, 40.5, 0))))
    return Case("a", "p", tmp_path / "a.png", points, tmp_path / "mask.png", None, {}, fold=1)


def test_points_lie_on_the_grid_of_the_working_scale(benchmark, case):
    image = benchmark.Image(case, {"scale": 0.5, "pairs": 5})
    assert image.pixels.shape == (32, 32, 3)
    assert image.points.tolist() == [[10.25, 4.25], [20.25, 25.25]]
    columns = np.tile(np.arange(16.0), (16, 1))[..., None]
    assert image.at_points(columns).tolist() == [[2.0], [12.0]]


def test_the_random_walker_and_the_classifiers_find_two_halves_from_two_points(benchmark, case):
    image = benchmark.Image(case, {"scale": 1.0, "pairs": 5})
    assert image.dice(benchmark.walker(image)) == 1.0
    features = image.pixels.astype(float)
    fitted = benchmark.ridge().fit(image.at_points(features), image.labels)
    assert image.dice(benchmark.target_map(fitted, features)) == 1.0


def test_a_walker_whose_points_share_a_pixel_gives_nothing(benchmark, case):
    image = benchmark.Image(case, {"scale": 1.0, "pairs": 5})
    image.points = np.array([[3.2, 3.2], [3.4, 3.6]])
    assert benchmark.walker(image) is None


def test_the_table_has_the_mean_over_seeds_and_the_difference_over_patients(benchmark):
    scores = {
        "u": {"a": [0.8, 0.6], "b": [0.9], "c": [float("nan")]},
        "other": {"a": [0.5], "b": [0.7], "c": [0.1]},
    }
    found = list(benchmark.lines(scores, {"a": "p", "b": "q", "c": "r"}))
    assert found == [
        "| 2 images | Dice | u minus it |",
        "|---|---|---|",
        "| u | 0.800 |  |",
        "| other | 0.600 | +0.200 [+0.200, +0.200] |",
    ]
