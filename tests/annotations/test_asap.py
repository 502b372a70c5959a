"""ASAP's XML."""

import gzip
import math

import pytest
import shapely

from cvm_monai.annotations import Annotations, Point, Region, describe, read_annotations, read_class_map

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
CLASSES = {"Tumor": "target", "Stroma": "background"}


def annotation(kind, group, *positions, **more):
    vertices = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(positions))
    extra = "".join(f' {name}="{value}"' for name, value in more.items())
    start = f'<Annotation Name="x" Type="{kind}" PartOfGroup="{group}"{extra}>'
    return f"{start}<Coordinates>{vertices}</Coordinates></Annotation>"


def document(*annotations, groups=""):
    inside = f"<Annotations>{''.join(annotations)}</Annotations><AnnotationGroups>{groups}</AnnotationGroups>"
    return f'<?xml version="1.0"?><ASAP_Annotations>{inside}</ASAP_Annotations>'


def save(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_every_type_becomes_what_it_shows(tmp_path):
    text = document(
        annotation("Dot", "Tumor", ("1,5", "2")),
        annotation("PointSet", "stroma", (1, 2), (3, 4)),
        annotation("Polygon", "Tumor", *SQUARE, SQUARE[0]),
        annotation("Spline", "Stroma", *SQUARE),
        annotation("Rectangle", "TUMOR", (0, 0), (4, 4)),
        annotation("Measurement", "None", (0, 0), (4, 4)),
        annotation("Polygon", "None"),
    )
    regions = tuple(Region(SQUARE, (), label) for label in (1, 0, 1))
    points = (Point(1.5, 2, 1), Point(1, 2, 0), Point(3, 4, 0))
    expected = Annotations(points, regions, {"Measurement": 1, "empty Polygon": 1})
    assert read_annotations(save(tmp_path / "a.xml", text), classes=CLASSES) == expected
    (tmp_path / "b.xml.gz").write_bytes(gzip.compress(("\ufeff\n" + text.partition("?>")[2]).encode()))
    assert read_annotations(tmp_path / "b.xml.gz", classes=CLASSES) == expected


def test_vertices_follow_their_order_and_attributes_any_case(tmp_path):
    text = """<asap_annotations><annotations><annotation type=" polygon " partofgroup=" Tumor ">
        <coordinates><coordinate order="2" x="4" y="4"/><coordinate order="10" x="0" y="4"/>
        <coordinate order="0" x="0" y="0"/><coordinate order="1" x="4.0" y="0"/></coordinates>
        </annotation></annotations></asap_annotations>"""
    assert read_annotations(save(tmp_path / "a.xml", text), classes=CLASSES).regions == (Region(SQUARE, (), 1),)


def test_the_nearest_known_group_speaks_and_its_colour_is_kept(tmp_path):
    groups = (
        '<Group Name="micro" PartOfGroup="macro" Color="#0000ff"/><Group Name="macro" PartOfGroup="Tumor"/>'
        '<Group Name="loop" PartOfGroup="loop"/><Group Name="Tumor" PartOfGroup="None"/>'
    )
    dots = (annotation("Dot", name, (1, 1)) for name in ("micro", "loop", "Tumor"))
    path = save(tmp_path / "a.xml", document(*dots, groups=groups))
    with pytest.raises(ValueError, match=r"a.xml, annotation 2: unknown label 'loop'; allowed"):
        read_annotations(path, classes=CLASSES)
    found = read_annotations(path, classes=CLASSES | {"macro": "background", "loop": "skip"})
    assert [point.label for point in found.points] == [0, 1]
    assert found.colours == {0: (0, 0, 255)}


def test_camelyon16_maps_tumour_and_its_holes(tmp_path):
    text = document(*(annotation("Polygon", group, *SQUARE) for group in ("_0", "_1", "_2", "Tumor", "metastasis")))
    regions = read_annotations(save(tmp_path / "a.xml", text), classes=read_class_map("camelyon16")).regions
    assert [region.label for region in regions] == [1, 1, 255, 1, 1]


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><ASAP_Annotations>&b;</ASAP_Annotations>'
OUTER = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]><ASAP_Annotations>&a;</ASAP_Annotations>'


@pytest.mark.parametrize(
    "text, sentence",
    [
        (BOMB, "a.xml: it declares XML entities"),
        (OUTER, "a.xml: it declares XML entities"),
        ("", "a.xml is empty"),
        ("<ASAP_Annotations>\n<Annotations>", "a.xml, line 2: not valid XML"),
        ("<Annotations><Annotation><Regions/></Annotation></Annotations>",
         r"a.xml: not ASAP's XML \(its outermost tag is <annotations>\)"),
        (document(annotation("Dot", "1", ("one", 2))), "annotation 1: X and Y must be numbers, got 'one' and '2'"),
        (document(annotation("Dot", "1", ("nan", 2))), "annotation 1: X and Y must be numbers"),
        (document(annotation("Dot", "1", ("1e300", 2))), "annotation 1: the position .* lies beyond any slide"),
        (document(annotation("Dot", "None", (1, 2))), "annotation 1: an annotation without a label; .*--unclassified"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_annotations(save(tmp_path / "a.xml", text))


ASAP = [  # counted in the file with grep: annotations of each group; polygons that shapely calls invalid
    ("A01.xml", {"metastases_org": 9, "newmeta": 42, "benign": 27}, 0),
    ("A02.xml", {"metastases_org": 11, "newmeta": 6, "benign": 6}, 0),
    ("A03.xml", {"metastases_org": 9, "newmeta": 16}, 0),
    ("tumor_009.xml", {"metastasis": 6}, 3),
    ("tumor_011.xml", {"metastasis": 63}, 15),
    ("tumor_036.xml", {"metastasis": 103, "negative": 2}, 10),
    ("tumor_046.xml", {"metastasis": 5}, 4),
]


@pytest.mark.parametrize("name, groups, invalid", ASAP)
def test_real_asap_files_are_read(shared_dir, name, groups, invalid):
    path = shared_dir / "formats" / "asap" / name
    group, count = next(iter(groups.items()))
    with pytest.raises(ValueError, match=rf"{name}: unknown label.*'{group}' \({count}\)"):
        read_annotations(path)
    for group, count in groups.items():  # outlines cut in parts are counted once
        found = read_annotations(path, classes={other: 1 if other == group else "skip" for other in groups})
        assert found.counts.get("skip", 0) == sum(groups.values()) - count
        assert len(found.regions) >= count
        assert len(found.regions) == count or found.counts["repaired"]
    everything = read_annotations(path, classes=dict.fromkeys(groups, 1))
    assert everything.counts == ({"repaired": invalid} if invalid else {})


def test_real_unclassified_files_are_read(shared_dir):
    folder = shared_dir / "formats" / "asap"
    dot = read_annotations(folder / "asap-dot.xml", unclassified="target")
    assert dot == Annotations((Point(23071.5605, 16831.0098, 1),))
    polygon = read_annotations(folder / "asap-polygon.xml", unclassified=0)
    assert [len(region.exterior) for region in polygon.regions] == [6]
    assert describe(polygon) == "1 background region"


RING = ((10, 10), (60, 10), (60, 50), (10, 50), (10, 10))
HOLE = ((20, 20), (20, 40), (40, 40), (40, 20), (20, 20))
ISLAND = ((25, 25), (35, 25), (35, 35), (25, 35), (25, 25))
PART = ((80, 10), (90, 10), (90, 20), (80, 20), (80, 10))


def area(path, label=1):
    """What the regions of a file cover."""
    regions = read_annotations(path, classes=CLASSES).regions
    assert {region.label for region in regions} == {label}
    return shapely.union_all([shapely.Polygon(region.exterior, region.holes) for region in regions])


def test_an_ellipse_is_drawn_through_its_four_outermost_vertices(tmp_path):
    """As QuPath's plug-in sends it: top, right, bottom, left."""
    path = save(tmp_path / "a.xml", document(annotation("Ellipse", "Tumor", (30, 10), (50, 20), (30, 30), (10, 20))))
    assert area(path).area == pytest.approx(math.pi * 20 * 10, rel=0.01)
    assert area(path).bounds == pytest.approx((10, 10, 50, 30), abs=0.1)


def test_a_geometry_has_its_parts_holes_and_islands(tmp_path):
    """As QuPath's plug-in sends it: the vertices of all rings in one row."""
    path = save(tmp_path / "a.xml", document(annotation("Geometry", "Tumor", *RING, *HOLE, *ISLAND, *PART)))
    assert area(path).area == 50 * 40 - 20 * 20 + 10 * 10 + 10 * 10
    assert not area(path).contains(shapely.Point(22, 22))
    assert len(read_annotations(path, classes=CLASSES).regions) == 3


def test_a_geometry_whose_rounded_vertices_meet_its_first_one_is_whole(tmp_path):
    dense = ((10, 10), (10, 10), (11, 10), (10, 10), (60, 10), (60, 50), (10, 50), (10, 10))
    path = save(tmp_path / "a.xml", document(annotation("Geometry", "Tumor", *dense, *HOLE)))
    assert area(path).area == 50 * 40 - 20 * 20


def test_a_geometry_without_closed_rings_is_counted(tmp_path):
    lines = document(annotation("Geometry", "Tumor", *RING[:4]), annotation("Polyline", "Tumor", *RING[:4]))
    assert read_annotations(save(tmp_path / "a.xml", lines), classes=CLASSES).counts == {
        "open Geometry": 1,
        "Polyline": 1,
    }


@pytest.mark.parametrize("number", ["0", "1", "2", "255"])
def test_a_number_names_no_class(tmp_path, number):
    path = save(tmp_path / "a.xml", document(annotation("Polygon", number, *SQUARE)))
    with pytest.raises(ValueError, match=f"unknown label '{number}'"):
        read_annotations(path, classes={"Immune": 2})
    (region,) = read_annotations(path, classes={number: "background"}).regions
    assert region.label == 0
