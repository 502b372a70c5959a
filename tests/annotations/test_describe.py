"""What was read, in words, and what lies outside."""

import pytest

from cvm_monai.annotations import Annotations, Point, Region, clip, describe, read_annotations
from cvm_monai.annotations.labels import class_names

FAR = Region(((50, 1), (60, 1), (60, 9)), (), 1)
NEAR = Region(((-5, -5), (5, 1), (3, 9)), (), 255)
FOUND = Annotations(
    (*[Point(1, 1, 1)] * 12, *[Point(2, 2, 0)] * 9, Point(30, 5, 1)), (FAR, NEAR), {"LineString": 2, "repaired": 1}
)


def test_points_regions_and_the_rest_are_counted():
    names = ["stroma", "tumour"]
    assert describe(FOUND, names=names) == (
        "13 tumour, 9 stroma, 1 tumour region, 1 exclusion region, 2 LineString, 1 repaired"
    )
    assert describe(FOUND, names=names, image_shape=(20, 30)) == (
        "12 tumour, 9 stroma, 1 exclusion region, 2 outside the image, 2 LineString, 1 repaired"
    )
    assert describe(Annotations(FOUND.points), names={"stroma": 0, "tumour": 1}, image_shape=(20, 30)) == (
        "12 tumour, 9 stroma, 1 outside the image"
    )


def test_background_comes_last_and_nothing_is_said_as_such():
    points = tuple(Point(0, 0, label) for label in (0, 2, 1, 2, 3))
    assert describe(Annotations(points), names=class_names({"Fat": 2})) == "1 target, 2 fat, 1 class 3, 1 background"
    assert describe(Annotations()) == "nothing"


def test_clip_leaves_out_and_counts():
    clipped = clip(FOUND, (20, 30))
    assert clipped.points == FOUND.points[:-1]
    assert clipped.regions == (NEAR,)
    assert clipped.counts == {"LineString": 2, "repaired": 1, "outside the image": 2}
    assert describe(clipped) == describe(FOUND, image_shape=(20, 30))
    assert clip(Annotations(), (20, 30)) == Annotations()


def test_annotations_of_another_image_are_refused(tmp_path):
    path = tmp_path / "slide1.csv"
    path.write_text("x,y,label\n100,200,1\n300,50,0\n")
    assert len(read_annotations(path).points) == 2
    with pytest.raises(
        ValueError,
        match=r"slide1.csv: nothing in it lies inside slide2.svs of 30 x 20 px, it reaches from \(100, 50\) to "
        r"\(300, 200\); it belongs to another image",
    ):
        read_annotations(path, image_shape=(20, 30), image="slide2.svs")
