"""Class maps as users give them."""

import json

import pytest

from cvm_monai.annotations import Annotations, Point, class_colours, read_annotations, read_class_map
from cvm_monai.annotations.labels import class_names, label_table

COLOURED = {"Tumor": {"class": "target", "color": [200, 0, 0]}, "TIL": {"class": 2, "color": "#0000c8"}, "Fat": "TIL"}


def test_json_pairs_and_files_say_the_same(tmp_path):
    expected = {"Tumor": "target", "Stroma: dense": "background", "a=b": "2"}
    (tmp_path / "map.json").write_text(json.dumps(expected))
    (tmp_path / "map.csv").write_text("label;class;color\nTumor;target;\nStroma: dense;background;\na=b;2;\n")
    pairs = " Tumor = target, Stroma: dense=background,a=b=2,"
    for text in (json.dumps(expected), pairs, str(tmp_path / "map.json"), str(tmp_path / "map.csv")):
        assert read_class_map(text) == expected
    assert read_class_map(None) is None


def test_pairs_may_be_longer_than_a_file_name():
    expected = {f"label {number}": "target" for number in range(500)}
    assert read_class_map(",".join(f"{name}={meaning}" for name, meaning in expected.items())) == expected


def test_a_colour_is_part_of_the_map():
    assert class_names(COLOURED) == {"background": 0, "target": 1, "til": 2}
    assert label_table(COLOURED)["fat"] == 2
    assert class_colours(COLOURED) == {1: (200, 0, 0), 2: (0, 0, 200)}
    assert class_colours({"a": {"class": "skip", "color": [1, 2, 3]}, "b": "target"}) == {}


def test_unclassified_wins_over_the_map(tmp_path):
    assert read_class_map(None, unclassified="target") == {"Unclassified": "target"}
    classes = read_class_map('{"unclassified": 0, "Tumor": 1}', unclassified="tumor")
    assert label_table(classes)["unclassified"] == 1
    (tmp_path / "a.csv").write_text("x,y,label\n1,2,\n")
    assert read_annotations(tmp_path / "a.csv", unclassified="exclusion") == Annotations((), (), {"exclusion point": 1})
    assert read_annotations(tmp_path / "a.csv", unclassified=0).points == (Point(1, 2, 0),)


@pytest.mark.parametrize(
    "text, unclassified, sentence",
    [
        ("{", None, "--classes is not valid JSON"),
        ("none.json", None, "none.json does not exist$"),
        ("camelyon18", None, "camelyon18 does not exist; give a file, JSON, pairs .* or one of camelyon16, camelyon17"),
        ("a" * 5000, None, r"--classes: a{57}\.\.\. does not exist; give a file, JSON, pairs"),
        ("Tumor=target,Stroma", None, "'Stroma' is not a pair such as Tumor=target"),
        ("Tumor=cancer", None, "the class map gives 'Tumor' the meaning 'cancer'"),
        ("Tumor=cancer", "target", "^the class map gives 'Tumor' the meaning 'cancer'"),
        (None, "cancer", "--unclassified cancer: the class map gives 'Unclassified' the meaning 'cancer'"),
        ('{"a": {"color": [1, 2, 3]}}', None, "gives 'a' the meaning"),
    ],
)
def test_what_is_wrong_is_named(text, unclassified, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_class_map(text, unclassified=unclassified)


@pytest.mark.parametrize("colour", ["red", [1, 2], [1, 2, 300], "#12345g", True])
def test_a_colour_that_is_none_is_refused(colour):
    with pytest.raises(ValueError, match=r"the class map gives 'a' the colour .*: use \[red, green, blue\]"):
        class_colours({"a": {"class": 1, "color": colour}})
