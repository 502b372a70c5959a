"""Class maps of more than two classes."""

import json

import pytest

from cvm_monai.annotations import Annotations, Point, read_annotations, write_geojson
from cvm_monai.annotations.labels import class_names, label_table

MAP = {"Tumor": "target", "Lymphocytes": 2, "TIL": "lymphocytes", "Fat": "3", "Stroma": "background", "Ink": "skip"}


def test_further_classes_are_numbers_or_the_names_of_others():
    table = label_table(MAP)
    assert [table[name] for name in ("tumor", "lymphocytes", "til", "fat", "stroma", "ink")] == [1, 2, 2, 3, 0, -1]
    assert (table["2"], table["3"], table["exclusion"]) == (2, 3, 255)


def test_each_class_is_named_by_its_first_key_and_two_classes_stay_two():
    assert class_names(MAP) == {"background": 0, "target": 1, "lymphocytes": 2, "fat": 3}
    assert class_names({"Tumor": 1, "Region*": 255}) == {"background": 0, "target": 1}
    assert class_names({"7": 2}) == {"background": 0, "target": 1, "class 2": 2}


def test_the_names_of_the_classes_are_a_class_map_themselves():
    assert label_table(class_names(MAP))["lymphocytes"] == 2


def test_points_of_further_classes_are_written_with_their_names_and_read_again(tmp_path):
    points = tuple(Point(1.5 + label, 2.5, label) for label in range(4))
    write_geojson(tmp_path / "a.geojson", Annotations(points), names=list(class_names(MAP)))
    assert read_annotations(tmp_path / "a.geojson", classes=class_names(MAP)).points == points
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    colours = [feature["properties"]["classification"]["color"] for feature in features]
    assert len({tuple(colour) for colour in colours}) == 4


@pytest.mark.parametrize(
    "classes, sentence",
    [
        ({"a": "b", "b": "c", "c": 2}, "gives 'a' the meaning 'b'"),  # a name of a name is not followed
        ({"a": "a"}, "gives 'a' the meaning 'a': use one of background, target, exclusion, skip, or the number of a"),
        ({"a": -1}, "the meaning -1"),
        ({"a": 2, "b": 4}, "the class map has a class 4 but no class 3"),
    ],
)
def test_a_class_map_that_means_nothing_is_refused(classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        label_table(classes)
