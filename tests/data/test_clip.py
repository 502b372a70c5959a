import numpy as np
import shapely

from cvm_monai.annotations import Annotations, Point, Region, rasterise_regions
from cvm_monai.data.clip import RegionIndex, annotated

RING = Region(((0, 0), (40, 0), (40, 40), (0, 40)), (((10, 10), (10, 30), (30, 30), (30, 10)),), 1)


def area(region):
    return shapely.Polygon(region.exterior, region.holes).area


def test_a_region_inside_keeps_its_hole_and_moves_with_the_tile():
    (region,) = RegionIndex([RING]).clip((-4, -8), shape=(32, 64), scale=(2.0, 2.0))
    assert region.label == 1
    assert shapely.Polygon(region.exterior).equals(shapely.box(2, 4, 22, 24))
    assert [shapely.Polygon(hole).equals(shapely.box(7, 9, 17, 19)) for hole in region.holes] == [True]


def test_a_hole_on_the_border_opens():
    (region,) = RegionIndex([RING]).clip((0, 0), shape=(40, 20), scale=(1.0, 1.0))
    assert region.holes == ()
    assert area(region) == 20 * 40 - 10 * 20


def test_a_region_that_falls_into_parts_becomes_several():
    u = Region(((0, 0), (30, 0), (30, 30), (20, 30), (20, 10), (10, 10), (10, 30), (0, 30)), (), 0)
    parts = RegionIndex([u]).clip((0, 20), shape=(10, 30), scale=(1.0, 1.0))
    assert [(area(part), part.label) for part in parts] == [(100, 0), (100, 0)]


def test_a_region_that_only_touches_the_tile_is_left_out():
    assert RegionIndex([RING]).clip((40, 0), shape=(8, 8), scale=(1.0, 1.0)) == ()
    assert RegionIndex([]).clip((0, 0), shape=(8, 8), scale=(1.0, 1.0)) == ()


def test_drawing_a_clipped_region_is_drawing_the_region_and_cutting():
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 4001)[:-1]
    radii = 200 + 40 * np.sin(7 * angles) + rng.uniform(-3, 3, 4000)
    ring = tuple(zip((300.3 + radii * np.cos(angles)).tolist(), (280.7 + radii * np.sin(angles)).tolist(), strict=True))
    lesion = Region(ring, (), 1)
    whole = rasterise_regions([lesion], image_shape=(600, 600), map_shape=(600, 600))
    clipped = RegionIndex([lesion]).clip((100, 150), shape=(256, 192), scale=(1.0, 1.0))
    drawn = rasterise_regions(clipped, image_shape=(256, 192), map_shape=(256, 192))
    assert (drawn != whole[150:406, 100:292]).sum() == 0


def test_squares_with_a_region_or_a_point_are_annotated():
    corners = np.array([(12, 12), (25, 12), (41, 41), (60, 60), (-10, 0), (52, 60)])
    found = annotated(Annotations((Point(65, 62, 0),), (RING,)), corners, side=10)
    assert found.tolist() == [False, True, False, True, True, False]  # the first lies in the ring's hole
    assert annotated(Annotations(), corners, side=10).tolist() == [False] * 6
    assert annotated(Annotations(), corners[:0], side=10).tolist() == []
