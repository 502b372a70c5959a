"""Annotation documents of the Digital Slide Archive."""

import json

import numpy as np
import pytest

from cvm_monai.annotations import Annotations, Point, Region, rasterise_regions, read_annotations

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
HOLE = ((1.0, 1.0), (1.0, 2.0), (2.0, 2.0))
CLASSES = {"Tumor": "target", "Stroma": "background"}


def flat(ring):
    return [[x, y, 0] for x, y in ring]


ELEMENTS = [
    {"type": "point", "center": [1.5, 2.5, 0], "group": "Tumor", "label": {"value": "Stroma"}},
    {"type": "point", "center": [3, 4, 0], "group": "default", "label": {"value": "stroma"},
     "lineColor": "rgb(1, 2, 3)"},
    {"type": "polyline", "points": flat(SQUARE), "closed": True, "holes": [flat(HOLE)], "label": {"value": "Tumor"},
     "lineColor": "#ff0000"},
    {"type": "polyline", "points": flat(SQUARE), "closed": False},
    {"type": "rectangle", "center": [2, 2, 0], "width": 4, "height": 4, "rotation": 0, "group": "Stroma"},
    {"type": "arrow", "points": flat(SQUARE[:2])},
    {"type": "polyline", "points": [], "closed": True, "group": "nonsense"},
]  # fmt: skip
EXPECTED = Annotations(
    points=(Point(1.5, 2.5, 1), Point(3, 4, 0)),
    regions=(Region(SQUARE, (HOLE,), 1), Region(SQUARE, (), 0)),
    counts={"open polyline": 1, "arrow": 1, "empty polyline": 1},
)
DOCUMENT = {"name": "first", "elements": ELEMENTS}


def save(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "data", [DOCUMENT, {"_id": "5", "annotation": DOCUMENT}, [{"annotation": DOCUMENT}], [DOCUMENT], ELEMENTS]
)
def test_documents_lists_and_wrappers_read_alike(tmp_path, data):
    found = read_annotations(save(tmp_path / "a.json", data), classes=CLASSES)
    assert found == EXPECTED
    assert found.colours == {0: (1, 2, 3), 1: (255, 0, 0)}


def test_several_documents_are_read_one_after_the_other(tmp_path):
    assert len(read_annotations(save(tmp_path / "a.json", [DOCUMENT, DOCUMENT]), classes=CLASSES).points) == 4


def test_a_turned_rectangle_and_round_elements_cover_what_they_should(tmp_path):
    elements = [  # by a quarter turn, width and height are exchanged
        {"type": "rectangle", "center": [5, 5, 0], "width": 8, "height": 2, "rotation": np.pi / 2, "group": "1"},
        {"type": "circle", "center": [50, 50, 0], "radius": 20, "group": "1"},
        {"type": "ellipse", "center": [50, 50, 0], "width": 60, "height": 20, "group": "1"},
    ]
    turned, circle, ellipse = read_annotations(save(tmp_path / "a.json", {"elements": elements})).regions
    drawn = rasterise_regions([turned], image_shape=(10, 10), map_shape=(10, 10)) == 1
    expected = np.zeros((10, 10), dtype=bool)
    expected[1:9, 4:6] = True
    np.testing.assert_array_equal(drawn, expected)
    for region, area in ((circle, np.pi * 20**2), (ellipse, np.pi * 30 * 10)):
        drawn = rasterise_regions([region], image_shape=(100, 100), map_shape=(100, 100)) == 1
        assert drawn.sum() == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize(
    "data, sentence",
    [
        ({"elements": 3}, "annotation 1: the elements of an annotation must be a list"),
        ({"elements": [3]}, "annotation 1, element 1: an element must be an object"),
        ({"elements": [{"type": "point", "group": "1"}]}, "element 1: a position must be two finite numbers"),
        ({"elements": [{"type": "rectangle", "center": [0, 0]}]}, "element 1: a position must be"),
        ({"elements": [ELEMENTS[0], {**ELEMENTS[2], "holes": 3}]}, "element 2: the holes of a polyline must be a list"),
        ({"elements": ELEMENTS}, r"a.json: unknown labels 'Tumor' \(2\), 'stroma' \(1\), 'Stroma' \(1\); allowed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_annotations(save(tmp_path / "a.json", data))
