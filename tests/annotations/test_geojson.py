import gzip
import json
import math

import pytest

from cvm_monai.annotations import Annotations, Point, Region, read_annotations, write_geojson

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
HOLE = ((1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (2.0, 1.0))


def feature(kind, coordinates, label="target", **properties):
    properties = {"classification": {"name": label}, **properties} if label is not None else properties
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def closed(ring):
    return [list(vertex) for vertex in (*ring, ring[0])]


def save(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


POINT = feature("Point", [1.5, 2.5])


@pytest.mark.parametrize("data", [{"type": "FeatureCollection", "features": [POINT]}, [POINT], POINT])
def test_collection_list_and_single_feature_read_alike(tmp_path, data):
    assert read_annotations(save(tmp_path / "a.json", data)).points == (Point(1.5, 2.5, 1),)


def test_gzipped_file_reads_alike(tmp_path):
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps([POINT]).encode()))
    assert read_annotations(path).points == (Point(1.5, 2.5, 1),)


def test_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([POINT]), encoding="utf-8-sig")
    assert len(read_annotations(path).points) == 1


def test_every_geometry_becomes_what_it_shows(tmp_path):
    data = [
        feature("MultiPoint", [[0, 1], [2, 3, 9]], "Background"),
        feature("Polygon", [closed(SQUARE), closed(HOLE)], "TARGET"),
        feature("MultiPolygon", [[closed(SQUARE)], [closed(HOLE)]], "exclusion"),
        feature("LineString", [[0, 0], [1, 1]], "nonsense"),
        feature("GeometryCollection", None, None),
        {"type": "Feature", "geometry": None, "properties": None},
        feature("Point", [5, 5], "exclusion"),
    ]
    assert read_annotations(save(tmp_path / "a.geojson", data)) == Annotations(
        points=(Point(0, 1, 0), Point(2, 3, 0)),
        regions=(Region(SQUARE, (HOLE,), 1), Region(SQUARE, (), 255), Region(HOLE, (), 255)),
        counts={"LineString": 1, "GeometryCollection": 1, "no geometry": 1, "exclusion point": 1},
    )


def test_what_is_odd_but_clear_is_read(tmp_path):
    collection = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Point", "coordinates": [1, 2, 0]},
            {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
            {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [closed(SQUARE)]}]},
        ],
    }
    data = [
        {"type": "Feature", "geometry": collection, "properties": {"classification": "Target"}},
        feature("Polygon", [closed(SQUARE)], nucleusGeometry={"type": "Polygon", "coordinates": [closed(HOLE)]}),
        feature("Polygon", [[*closed(SQUARE), list(SQUARE[0])], [[1, 1, 5], [1, 2, 5], [2, 2]], [[1, 1], [2, 2]]]),
        feature("Polygon", [], None), feature("Point", [], None), feature("MultiPolygon", []),
        feature("Polygon", [closed(SQUARE)], None, objectType="root"),
        {**POINT, "id": "PathAnnotationObject", "properties": {"label": {"value": "background"}, "name": "target"}},
    ]  # fmt: skip
    assert read_annotations(save(tmp_path / "a.json", data)) == Annotations(
        points=(Point(1, 2, 1), Point(1.5, 2.5, 0)),
        regions=(Region(SQUARE, (), 1), Region(SQUARE, (), 1), Region(SQUARE, (((1, 1), (1, 2), (2, 2)),), 1)),
        counts={"LineString": 1, "empty Polygon": 1, "empty Point": 1, "empty MultiPolygon": 1, "root": 1},
    )


@pytest.mark.parametrize(
    "classification", [{"name": "Target", "color": [9, 8, 7]}, {"name": "Target", "colorRGB": -16185337}]
)
def test_colours_of_the_classes_are_kept(tmp_path, classification):  # -16185337 = 0xff090807 as a signed number
    data = feature("Point", [1, 2], None, classification=classification)
    assert read_annotations(save(tmp_path / "a.json", data)).colours == {1: (9, 8, 7)}


@pytest.mark.parametrize("label", ["target", "Target ", "1"])
def test_label_ignores_case_and_takes_the_index(tmp_path, label):
    assert read_annotations(save(tmp_path / "a.json", feature("Point", [0, 0], label))).points[0].label == 1


def test_plain_label_property_is_read(tmp_path):
    data = {**POINT, "properties": {"label": 0, "classification": None}}
    assert read_annotations(save(tmp_path / "a.json", data)).points == (Point(1.5, 2.5, 0),)


def test_child_objects_are_read_after_their_parent(tmp_path):
    inner = feature("Point", [2, 2], "background", childObjects=[feature("Point", [3, 3])])
    data = [feature("Point", [1, 1], childObjects=[inner]), feature("Point", [4, 4])]
    points = read_annotations(save(tmp_path / "a.json", data)).points
    assert [(point.x, point.label) for point in points] == [(1, 1), (2, 0), (3, 1), (4, 1)]


def test_class_map_wins_skips_and_speaks_for_unclassified(tmp_path):
    data = [
        feature("Point", [0, 0], "TUMOR"),
        feature("Point", [1, 1], "target"),
        feature("Point", [2, 2], "Region*"),
        feature("Point", [3, 3], None),
        feature("Point", [4, 4], None, classification={"names": ["Immune", "CD3"]}),
    ]
    classes = {"Tumor": "target", "target": 0, "region*": "skip", "Unclassified": "Background", "Immune: CD3": 1}
    found = read_annotations(save(tmp_path / "a.json", data), classes=classes)
    assert [(point.x, point.label) for point in found.points] == [(0, 1), (1, 0), (3, 0), (4, 1)]
    assert found.counts == {"skip": 1}


@pytest.mark.parametrize(
    "data, sentence",
    [
        ([POINT, feature("Point", [0, 0], "Tumor")], r"a.json, feature 2: unknown label 'Tumor'; allowed are "
         r"background \(0\), target \(1\), exclusion \(255\); map others by --classes '{\"Tumor\": \"target\"}'"),
        (feature("Point", [0, 0], None), "feature 1: an annotation without a label; .*--classes '{\"Unclassified\""),
        ('{"type":\n "FeatureCollection"', "a.json, line 2: not valid JSON"),
        ("{}", "a.json: not GeoJSON"),
        ("3", "a.json: not GeoJSON"),
        ("[" * 100_000, "a.json.*not valid JSON"),
        ([POINT, 7], "feature 2: not a feature"),
        (feature("Point", [0]), r"feature 1: a position must be two finite numbers \[x, y\], found \[0\]"),
        (feature("Point", [0, None]), "feature 1: a position must be"),
        (feature("Point", [0, float("nan")]), "feature 1: a position must be"),
        (feature("Point", None), "feature 1: a position must be"),
        (feature("MultiPoint", 3), "feature 1: the coordinates of a MultiPoint must be a list"),
        (feature("Polygon", 3), "feature 1: a polygon needs at least one ring"),
        (feature("Polygon", [3]), "feature 1: a polygon's ring must be a list"),
        (feature("Polygon", [[[0, 0], [1, 1], [1e308, 0]]]), r"position \(1e\+308, 0\) lies beyond any slide"),
        (feature("Point", [0, 10**400]), r"feature 1: the position \[0, 10{50,} lies beyond any slide"),
        (feature("Polygon", [[[0, 0], [1, 1], [10**400, 0]]]), r"feature 1: the position .* lies beyond any slide"),
        (feature("Polygon", [[[0, 0], [1, 1], ["1", 0]]]), "feature 1: a position must be"),
        (feature("Polygon", [[[0, 0], [float("nan"), 1], [1, 0]]]), "feature 1: a position must be"),
        (feature("MultiPoint", [[0, 0]] * 3, "ROI"), "feature 1: unknown label 'ROI'; allowed"),
        ([feature("Point", [0, 0], "A"), feature("Point", [0, 0], "B"), feature("Point", [0, 0], "B"), POINT,
          feature("Point", [0, 0], None), feature("Point", [0, 0], None)],
         r"a.json: unknown labels 'B' \(2\), 'A' \(1\) and 2 annotations without a label; allowed are .* by --classes "
         r"'{\"A\": \"target\", \"B\": \"target\"}' --unclassified target$"),
        ([feature("Point", [0, 0], None)] * 3, "a.json: 3 annotations without a label; .* or --unclassified target"),
        ("", "a.json is empty"),
        ('[{"type": "Feature"},\n\n {"type" "Feature"}]', "a.json, line 3: not valid JSON"),
        ("[] []", "a.json, line 1: not valid JSON"),
        ({**POINT, "properties": 3}, "feature 1: geometry and properties must be objects"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_annotations(save(tmp_path / "a.json", data))


def test_allowed_labels_include_the_class_map(tmp_path):
    path = save(tmp_path / "a.json", feature("Point", [0, 0], "Tumour"))
    with pytest.raises(ValueError, match=r"exclusion \(255\), tumor; map"):
        read_annotations(path, classes={"Tumor": "target"})


@pytest.mark.parametrize(
    "classes, sentence",
    [
        ({"Tumor": "cancer"}, "gives 'Tumor' the meaning 'cancer': use one of background, target, exclusion, skip"),
        ({"Tumor": True}, "the meaning True"),
        ({"Tumor": 256}, "the meaning 256"),
        ({"Tumor": 3}, "the class map has a class 3 but no class 2: number the classes without a gap"),
        ({"Tumor": 1, "tumor ": 0}, "'Tumor' and 'tumor ', which are the same label"),
    ],
)
def test_bad_class_map_is_refused(tmp_path, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_annotations(save(tmp_path / "a.json", POINT), classes=classes)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.geojson does not exist"):
        read_annotations(tmp_path / "none.geojson")
    with pytest.raises(ValueError, match=r"a.txt: unknown kind of annotation file; supported are .geojson"):
        read_annotations(tmp_path / "a.txt")
    (tmp_path / "b.geojson.gz").write_bytes(gzip.compress(b"[]" * 100)[:-12])
    with pytest.raises(ValueError, match=r"b.geojson.gz is not a complete gzip file"):
        read_annotations(tmp_path / "b.geojson.gz")
    (tmp_path / "c.json").write_bytes(b"[\xff]")
    with pytest.raises(ValueError, match=r"c.json is not UTF-8 text \(byte 1\)"):
        read_annotations(tmp_path / "c.json")
    (tmp_path / "d.json").mkdir()
    with pytest.raises(ValueError, match=r"d.json cannot be read"):
        read_annotations(tmp_path / "d.json")


def test_written_file_is_what_qupath_expects(tmp_path):
    path = tmp_path / "new" / "a.geojson"
    write_geojson(path, Annotations((Point(0.5, 1.5, 1), Point(2.5, 3.5, 1)), (Region(HOLE, (), 255),)))
    assert json.loads(path.read_text()) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "MultiPoint", "coordinates": [[0.5, 1.5], [2.5, 3.5]]},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": "target", "color": [213, 94, 0]},
                },
            },
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [closed(HOLE)]},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": "exclusion", "color": [153, 153, 153]},
                },
            },
        ],
    }
    assert [file.name for file in path.parent.iterdir()] == ["a.geojson"]


def test_written_file_reads_back(tmp_path):
    points = (Point(0.1, 1 / 3, 0), Point(1e5, 7, 0), Point(3.25, 4, 1))
    annotations = Annotations(points, (Region(SQUARE, (HOLE,), 0), Region(SQUARE, (), 255)))
    write_geojson(tmp_path / "a.geojson", annotations)
    assert read_annotations(tmp_path / "a.geojson") == annotations


def test_empty_annotations_make_a_valid_file(tmp_path):
    write_geojson(tmp_path / "a.geojson", Annotations())
    assert read_annotations(tmp_path / "a.geojson") == Annotations()


QUPATH = [  # counted by hand: points, holes of each region, labels
    ("geojson_example.json", 0, [0, 0, 0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]),
    ("qupath-brush.json", 0, [0], [255]),
    ("qupath-point.json", 0, [], []),
    ("qupath-polygon-cell-classified.json", 0, [0] * 4, [1, 1, 0, 0]),
    ("qupath-polygon.json", 0, [0], [255]),
    ("qupath-rectangle.json", 0, [0], [255]),
    ("qupath05.geojson", 0, [0] * 3, [255] * 3),
]


@pytest.mark.parametrize("name, points, holes, labels", QUPATH)
def test_real_qupath_files_are_read(shared_dir, name, points, holes, labels):
    classes = {"Tumor": 1, "Invborder": 0, "Cell": 1, "Nucleus": 0, "Unclassified": "exclusion"}
    found = read_annotations(shared_dir / "formats" / "qupath" / name, classes=classes)
    assert len(found.points) == points
    assert [len(region.holes) for region in found.regions] == holes
    assert [region.label for region in found.regions] == labels


def test_real_unclassified_point_keeps_its_place(shared_dir):
    path = shared_dir / "formats" / "qupath" / "qupath-point.json"
    assert read_annotations(path, classes={"unclassified": 1}).points == (Point(26833.53, 15424.94, 1),)
    with pytest.raises(ValueError, match=r"qupath-point.json, feature 1: an annotation without a label"):
        read_annotations(path)


@pytest.mark.parametrize(
    "held",
    [
        '{"name": "Tumor", "color": [200, 0, 0]}',
        ' {"names": ["Tumor"]}',
        "{'name': 'Tumor', 'color': [200, 0, 0]}",
        '"Tumor"',
        json.dumps(json.dumps({"name": "Tumor"})),
    ],
)
def test_a_classification_held_as_text_is_read(tmp_path, held):
    data = feature("Point", [1.5, 2.5], None, classification=held)
    found = read_annotations(save(tmp_path / "a.geojson", [data]), classes={"Tumor": "target"})
    assert found.points == (Point(1.5, 2.5, 1),)
    assert found.colours == ({1: (200, 0, 0)} if "color" in held else {})


@pytest.mark.parametrize("held", ["null", "nan", math.nan])
def test_a_classification_that_a_table_lacked_is_none(tmp_path, held):
    path = save(tmp_path / "a.geojson", [feature("Point", [1.5, 2.5], None, classification=held)])
    assert read_annotations(path, unclassified="background").points == (Point(1.5, 2.5, 0),)
    with pytest.raises(ValueError, match=r"feature 1: an annotation without a label"):
        read_annotations(path)


def test_a_label_that_only_begins_like_an_object_stays_as_it_is(tmp_path):
    data = feature("Point", [1.5, 2.5], "{odd}")
    assert read_annotations(save(tmp_path / "a.geojson", [data]), classes={"{odd}": 1}).points == (Point(1.5, 2.5, 1),)


@pytest.mark.parametrize(
    "kind",
    [
        {"properties": {"objectType": "tmaCore"}},
        {"properties": {"object_type": "tma_core", "name": "A-1", "isMissing": False}},
        {"properties": {"object_type": "root"}},
        {"properties": {"objectType": "TMA core"}},
        {"properties": {}, "id": "PathTMACoreObject"},
    ],
)
def test_cores_of_every_version_of_qupath_are_passed_over(tmp_path, kind):
    core = {**feature("Polygon", [closed(SQUARE)], None), **kind}
    found = read_annotations(save(tmp_path / "a.geojson", [core, POINT]), unclassified="target")
    assert found.points == (Point(1.5, 2.5, 1),)
    assert found.regions == ()
    assert list(found.counts.values()) == [1]


def test_empty_parts_are_counted_and_the_others_read(tmp_path):
    data = [
        feature("MultiPolygon", [[closed(SQUARE)], [], [closed(HOLE)], [[]], None]),
        feature("MultiPolygon", [[closed(SQUARE), []]], "background"),
        feature("MultiPolygon", [[]], "of no interest"),
        feature("MultiPoint", [[1, 2], []]),
    ]
    found = read_annotations(save(tmp_path / "a.geojson", data))
    assert found.regions == (Region(SQUARE, (), 1), Region(HOLE, (), 1), Region(SQUARE, (), 0))
    assert found.points == (Point(1, 2, 1),)
    assert found.counts == {"empty part of a MultiPolygon": 4, "empty part of a MultiPoint": 1}


def test_labels_in_two_normal_forms_are_one(tmp_path):
    composed, decomposed = "Dr\u00fcse", "Dru\u0308se"
    for label, key in ((composed, decomposed), (decomposed, composed)):
        path = save(tmp_path / "a.geojson", [feature("Point", [1, 2], label)])
        assert read_annotations(path, classes={key: "target"}).points == (Point(1, 2, 1),)
    with pytest.raises(ValueError, match=r"which are the same label: keep one"):
        read_annotations(path, classes={composed: 1, decomposed: 0})
