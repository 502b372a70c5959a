"""What holds of every annotation that can be written and read."""

import csv
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from cvm_monai.annotations import Annotations, Point, Region, read_annotations, read_points_csv, write_geojson
from cvm_monai.annotations.polygons import RegionResult, regions_from_labels
from cvm_monai.annotations.results import write_results_geojson

COORDINATES = st.floats(-(2.0**31) + 1, 2.0**31 - 1, allow_nan=False)
LABELS = st.sampled_from([0, 1])
POINTS = st.lists(st.builds(Point, COORDINATES, COORDINATES, LABELS), max_size=9)
KEYS = st.sampled_from(["type", "geometry", "coordinates", "features", "properties", "elements", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def boxes(draw):
    """Regions on whole pixels, perhaps with a hole that stays off their border."""
    x, y = draw(st.integers(-(10**6), 10**6)), draw(st.integers(-(10**6), 10**6))
    width, height = draw(st.integers(3, 10**5)), draw(st.integers(3, 10**5))
    outer = box(x, y, x + width, y + height)
    holes = (box(x + 1, y + 1, x + width - 1, y + height - 1),) if draw(st.booleans()) else ()
    return Region(outer, holes, draw(st.sampled_from([0, 1, 255])))


def box(x0, y0, x1, y1):
    return ((float(x0), float(y0)), (float(x1), float(y0)), (float(x1), float(y1)), (float(x0), float(y1)))


@same_folder
@given(POINTS, st.lists(boxes(), max_size=4))
def test_geojson_gives_back_every_point_and_region(tmp_path, points, regions):
    file = tmp_path / "a.geojson"
    write_geojson(file, Annotations(tuple(points), tuple(regions)))
    found = read_annotations(file)
    by_label = [point for label in dict.fromkeys(p.label for p in points) for point in points if point.label == label]
    assert found.points == tuple(by_label)  # a MultiPoint for each class
    assert found.regions == tuple(regions)
    assert found.counts == {}


@same_folder
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b b", "ä"]), st.builds(Point, COORDINATES, COORDINATES, LABELS)), max_size=9
    )
)
def test_a_table_gives_back_every_point_of_every_case(tmp_path, rows):
    file = tmp_path / "points.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_id", "x", "y", "label"])
        writer.writerows([case_id, repr(point.x), repr(point.y), point.label] for case_id, point in rows)
    found = read_points_csv(file)
    assert {case_id: list(annotations.points) for case_id, annotations in found.items()} == {
        name: [point for case_id, point in rows if case_id == name] for name, _ in rows
    }


@st.composite
def label_maps(draw):
    """(H, W) maps of labels 0, 1, 2 with much contact between them."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    cells = draw(st.lists(st.sampled_from([0, 1, 2]), min_size=height * width, max_size=height * width))
    return np.array(cells, dtype=np.uint8).reshape(height, width)


@same_folder
@given(label_maps())
def test_results_are_valid_polygons_that_cover_the_pixels_of_their_class(tmp_path, labels):
    file = tmp_path / "regions.geojson"
    regions = regions_from_labels(labels)
    results = [RegionResult(region, 1, 1.0, 0.5) for region in regions]
    totals = write_results_geojson(file, results, names=("background", "target", "other"))
    features = json.loads(file.read_text(encoding="utf-8"))["features"]
    assert sum(total.count for total in totals.values()) == len(features) == len(regions)
    area = {"target": 0.0, "other": 0.0}
    for feature in features:
        exterior, *holes = feature["geometry"]["coordinates"]
        assert Polygon(exterior, holes).is_valid
        area[feature["properties"]["classification"]["name"]] += Polygon(exterior, holes).area
    assert area["target"] == (labels == 1).sum()
    assert area["other"] == (labels == 2).sum()
    assert read_annotations(file, classes={"other": 2}).regions == regions


@same_folder
@given(JSON)
def test_any_json_is_read_or_refused_with_the_name_of_its_file(tmp_path, value):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    try:
        assert isinstance(read_annotations(file), Annotations)
    except ValueError as error:
        assert str(error).startswith(str(file))  # noqa: PT017 - most values are refused, some are read


@pytest.mark.parametrize("value", [2.0**31, -(2.0**31), float("inf"), float("nan")])
def test_no_coordinate_beyond_a_slide_is_read(tmp_path, value):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"type": "Point", "coordinates": [value, 1], "properties": {"label": 1}}))
    with pytest.raises(ValueError, match=r"a.json, feature 1: (the|a) position"):
        read_annotations(file)
