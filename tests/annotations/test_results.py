"""Predicted regions as files: what QuPath and the Digital Slide Archive find in them, and the way back."""

import csv
import gzip
import json
import uuid

import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely.geometry import shape

from cvm_monai.annotations import (
    ClassTotal,
    Region,
    RegionResult,
    rasterise_regions,
    read_annotations,
    regions_from_rows,
    total_by_class,
    write_region_table,
    write_results_geojson,
)
from cvm_monai.annotations.results import results_document

DSA_NAMES = {
    "id", "label", "group", "user", "lineColor", "lineWidth", "fillColor", "radius", "width", "height", "rotation",
    "normal",
}  # fmt: skip
"""The properties that large_image's reader of GeoJSON keeps; `type` would change what it makes of the geometry."""

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=np.uint8)


def results(labels=RING, **options):
    return list(regions_from_rows([(0, labels, np.full(labels.shape, 0.75))], **{"mpp": 0.5, **options}))


def blobs(*, classes=1, size=96):
    rng = np.random.default_rng(3)
    labels = np.zeros((size, size), np.uint8)
    for label in range(1, classes + 1):
        smooth = ndimage.gaussian_filter(rng.random((size, size)), 3)
        labels[smooth > np.quantile(smooth, 0.7)] = label
    return labels


def written(path, *args, **options):
    write_results_geojson(path, *args, **options)
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")
    return json.loads(text)["features"]


def test_a_feature_holds_what_qupath_reads(tmp_path):
    (feature,) = written(tmp_path / "a.geojson", results(), names=("background", "tumour"))
    assert feature["type"] == "Feature"
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    exterior, hole = feature["geometry"]["coordinates"]
    assert exterior[0] == exterior[-1]
    assert sorted(exterior[1:]) == [[0, 0], [0, 3], [3, 0], [3, 3]]
    assert sorted(hole[1:]) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    properties = feature["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"] == {"name": "tumour", "color": [213, 94, 0]}
    assert (properties["isLocked"], properties["name"]) == (False, "tumour 1")
    assert properties["measurements"] == {"Predicted area µm^2": 2.0, "Mean probability": 0.75}


def test_the_document_in_memory_is_the_one_in_the_file(tmp_path):
    names = ("background", "tumour", "stroma")
    found = results(blobs(classes=2))
    document = results_document(found, names=names, object_type="detection")
    assert len(found) > 10
    assert document["features"] == written(tmp_path / "a.geojson", found, names=names, object_type="detection")
    assert document["type"] == "FeatureCollection"
    with pytest.raises(ValueError, match="region 1 has the label 2, for which names has no class"):
        results_document([result for result in found if result.region.label == 2], names=names[:2])


def test_a_feature_holds_what_the_digital_slide_archive_keeps(tmp_path):
    (feature,) = written(tmp_path / "a.geojson", results())
    assert "type" not in feature["properties"]
    kept = {name: value for name, value in feature["properties"].items() if name in DSA_NAMES}
    assert kept == {
        "label": {"value": "target"},
        "group": "target",
        "lineColor": "rgb(213, 94, 0)",
        "fillColor": "rgba(213, 94, 0, 0.25)",
        "lineWidth": 2,
    }


def test_a_region_without_a_probability_has_no_such_measurement(tmp_path):
    (feature,) = written(tmp_path / "a.geojson", regions_from_rows([(0, RING)], mpp=0.5))
    assert feature["properties"]["measurements"] == {"Predicted area µm^2": 2.0}


def test_ids_are_unique_and_the_same_in_every_file(tmp_path):
    found = results(blobs())
    first = [feature["id"] for feature in written(tmp_path / "a.geojson", found + found)]
    second = [feature["id"] for feature in written(tmp_path / "b.geojson.gz", found + found)]
    assert first == second
    assert len(set(first)) == len(first) > 10
    other = [feature["id"] for feature in written(tmp_path / "c.geojson", found, names=("background", "tumour"))]
    assert not set(first) & set(other)


@pytest.mark.parametrize("scale, simplify_um", [(1.0, 0.0), (4.0007, 0.0), (4.0007, 2.0), (16.0, 20.0)])
def test_every_polygon_is_valid_as_it_is_written_and_keeps_its_area(tmp_path, scale, simplify_um):
    found = results(blobs(classes=3), scale=(scale, scale), simplify_um=simplify_um)
    features = written(tmp_path / "a.geojson", found, names=("background", "a", "b", "c"))
    shapes = [shape(feature["geometry"]) for feature in features]
    assert len(shapes) == len(found) > 10
    assert all(one.is_valid and one.geom_type == "Polygon" for one in shapes)
    np.testing.assert_allclose(shapely.area(shapes) * 0.25, [one.area_um2 for one in found], rtol=0.011)
    areas = [feature["properties"]["measurements"]["Predicted area µm^2"] for feature in features]
    np.testing.assert_allclose(areas, [one.area_um2 for one in found], atol=1e-3)


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_the_file_comes_back_as_training_input(tmp_path, name):
    labels = blobs(classes=2)
    found = results(labels, scale=(4.0003, 4.0003))
    write_results_geojson(tmp_path / name, found, names=("background", "tumour", "stroma"))
    back = read_annotations(tmp_path / name, classes={"tumour": "target", "stroma": 2})
    assert back.regions == tuple(one.region for one in found)
    assert (back.points, dict(back.counts)) == ((), {})
    size = tuple(4.0003 * length for length in labels.shape)
    drawn = rasterise_regions(back.regions, image_shape=size, map_shape=labels.shape)
    np.testing.assert_array_equal(np.where(drawn == 255, 0, drawn), labels)


def test_classes_have_their_colours_and_an_exclusion_is_grey(tmp_path):
    labels = np.array([[1, 2, 255]], dtype=np.uint8)
    found = results(labels, skip=(0,))
    names = ("background", "a", "b")
    features = written(tmp_path / "a.geojson", found, names=names, colours={2: (1, 2, 3), 1: (4, 5, 6), 255: (7, 8, 9)})
    classes = [feature["properties"]["classification"] for feature in features]
    assert classes == [
        {"name": "a", "color": [4, 5, 6]},
        {"name": "b", "color": [1, 2, 3]},
        {"name": "exclusion", "color": [7, 8, 9]},
    ]
    plain = written(tmp_path / "b.geojson", found, names=names)
    assert plain[1]["properties"]["classification"]["color"] == [0, 158, 115]


def test_detections_by_request(tmp_path):
    (feature,) = written(tmp_path / "a.geojson", results(), object_type="detection")
    assert feature["properties"]["objectType"] == "detection"


def test_no_region_is_an_empty_collection(tmp_path):
    assert written(tmp_path / "a.geojson", []) == []
    assert read_annotations(tmp_path / "a.geojson").regions == ()


def test_regions_are_written_as_they_come(tmp_path):
    """The file grows while the regions are made: they need not be in memory together."""
    path = tmp_path / "a.geojson"
    sizes = []

    def stream():
        for one in results(blobs()) * 20:
            yield one
            sizes.append(sum(part.stat().st_size for part in tmp_path.rglob("*.geojson")))

    write_results_geojson(path, stream())
    assert 0 < sizes[len(sizes) // 2] < sizes[-1]


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_a_failure_leaves_the_old_file(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    strange = RegionResult(Region(((0, 0), (1, 0), (1, 1)), (), 7), 1, 1.0)
    with pytest.raises(ValueError, match="region 2 has the label 7, for which names has no class"):
        write_results_geojson(path, [*results(), strange])
    assert [part.name for part in tmp_path.iterdir()] == [name]
    assert path.read_text() == "old"


def test_an_unknown_object_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="object_type must be one of annotation, detection, got 'tile'"):
        write_results_geojson(tmp_path / "a.geojson", [], object_type="tile")


def test_totals_by_class_are_the_same_from_the_file_and_from_the_results(tmp_path):
    labels = np.array([[1, 0, 1, 1, 0, 2]], dtype=np.uint8)
    probability = np.array([[0.9, 0.0, 0.6, 0.6, 0.0, 0.5]])
    found = list(regions_from_rows([(0, labels, probability)], mpp=0.5, scale=(2, 2)))
    expected = {1: ClassTotal(2, 3.0, pytest.approx(0.7)), 2: ClassTotal(1, 1.0, 0.5)}
    assert total_by_class(found) == expected
    assert write_results_geojson(tmp_path / "a.geojson", found, names=("background", "a", "b")) == expected


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_table_has_a_row_for_each_class(tmp_path):
    totals = {1: ClassTotal(2, 3.0, 0.7), 255: ClassTotal(1, 1.0, None)}
    write_region_table(tmp_path / "a.csv", totals, names=("background", "a", "b"), tissue_um2=12.0)
    assert table(tmp_path / "a.csv") == [
        ["class", "count", "area_um2", "mean_probability", "share_of_tissue"],
        ["a", "2", "3.00", "0.7000", "0.250000"],
        ["b", "0", "0.00", "", "0.000000"],
        ["exclusion", "1", "1.00", "", "0.083333"],
    ]


def test_a_table_without_the_area_of_tissue_has_no_shares(tmp_path):
    write_region_table(tmp_path / "a.csv", {})
    assert table(tmp_path / "a.csv")[1:] == [["target", "0", "0.00", "", ""]]


@pytest.mark.parametrize(
    "totals, options, message",
    [
        ({}, {"tissue_um2": 0}, "tissue_um2 must be above 0 square micrometres"),
        ({3: ClassTotal(1, 1.0, None)}, {}, "there are regions of the label 3, for which names has no class"),
    ],
)
def test_a_table_that_would_be_wrong_is_refused(tmp_path, totals, options, message):
    with pytest.raises(ValueError, match=message):
        write_region_table(tmp_path / "a.csv", totals, **options)
    assert not list(tmp_path.iterdir())
