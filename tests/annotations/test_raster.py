import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from cvm_monai.annotations import (
    Annotations,
    Point,
    Region,
    first_pairs,
    rasterise_points,
    rasterise_regions,
    region_points,
)

U = 255


def box(x0, y0, x1, y1):
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def draw(points, *, shape=(5, 6), size=3, image_shape=None):
    return rasterise_points(points, image_shape=image_shape or shape, map_shape=shape, size=size).tolist()


def test_point_grows_to_a_square_clipped_at_the_border():
    assert draw([Point(0.9, 1.0, 1), Point(5.2, 4.9, 0)]) == [
        [1, 1, U, U, U, U],
        [1, 1, U, U, U, U],
        [1, 1, U, U, U, U],
        [U, U, U, U, 0, 0],
        [U, U, U, U, 0, 0],
    ]


def test_overlap_of_two_classes_is_unlabelled_but_for_the_points_own_pixels():
    assert draw([Point(1, 1, 1), Point(2, 2, 0)], shape=(4, 4)) == [
        [1, 1, 1, U],
        [1, 1, U, 0],
        [1, U, 0, 0],
        [U, 0, 0, 0],
    ]


def test_two_classes_on_one_pixel_leave_it_unlabelled():
    assert draw([Point(0, 0, 1), Point(0.5, 0.5, 0), Point(1, 0, 1)], shape=(1, 2), size=1) == [[U, 1]]


def test_same_class_may_overlap():
    assert draw([Point(0, 0, 1), Point(1, 0, 1)], shape=(1, 4)) == [[1, 1, 1, U]]


def test_coordinates_scale_to_the_map_by_floor():
    drawn = draw([Point(5.9, 3.9, 1), Point(2.99, 4, 0)], shape=(4, 4), size=1, image_shape=(8, 8))
    assert drawn == [[U, U, U, U], [U, U, 1, U], [U, 0, U, U], [U, U, U, U]]


def test_odd_ratio_follows_the_formula():
    image, grid = (7, 11), (3, 4)
    points = [Point(x + 0.5, y + 0.5, 1) for x in range(11) for y in range(7)]
    for point in points:
        expected = np.full(grid, U)
        expected[int(point.y * 3 / 7), int(point.x * 4 / 11)] = 1
        np.testing.assert_array_equal(rasterise_points([point], image_shape=image, map_shape=grid, size=1), expected)


def test_coordinate_just_below_the_border_stays_on_the_map():
    assert draw([Point(np.nextafter(49, 0), 0, 1)], shape=(1, 3), size=1, image_shape=(1, 49)) == [[U, U, 1]]


@pytest.mark.parametrize("size", [0, 2, -1])
def test_even_size_is_refused(size):
    with pytest.raises(ValueError, match=f"odd number of pixels, got {size}"):
        draw([], size=size)


@pytest.mark.parametrize("x, y", [(6, 0), (0, 5), (-0.1, 0)])
def test_point_outside_the_image_is_refused(x, y):
    with pytest.raises(ValueError, match=rf"the point \({x:g}, {y:g}\) lies outside the image of 6 x 5 px"):
        draw([Point(x, y, 1)])


def test_no_annotations_label_nothing():
    assert draw([], shape=(1, 2)) == [[U, U]]


def regions(found, shape, image_shape=None):
    return rasterise_regions(found, image_shape=image_shape or shape, map_shape=shape).tolist()


def test_region_with_a_hole():
    region = Region(box(1, 0, 5, 5), (box(2, 1, 4, 3),), 1)
    assert regions([region], (5, 6)) == [
        [U, 1, 1, 1, 1, U],
        [U, 1, U, U, 1, U],
        [U, 1, U, U, 1, U],
        [U, 1, 1, 1, 1, U],
        [U, 1, 1, 1, 1, U],
    ]


def test_regions_of_two_classes_share_no_pixel_and_exclusions_win():
    found = [Region(box(0, 0, 3, 1), (), 1), Region(box(2, 0, 5, 1), (), 0), Region(box(4, 0, 9, 1), (), U)]
    assert regions(found, (1, 6)) == [[1, 1, U, 0, U, U]]
    assert regions(found[::-1], (1, 6)) == [[1, 1, U, 0, U, U]]


def test_neighbours_with_borders_through_centres_neither_overlap_nor_gap():
    left, right = (
        Region(((0, 0), (2.5, 0), (1.5, 4), (0, 4)), (), 0),
        Region(((2.5, 0), (4, 0), (4, 4), (1.5, 4)), (), 1),
    )
    drawn = np.array(regions([left, right], (4, 4)))
    assert set(np.unique(drawn)) == {0, 1}


def test_points_lie_over_regions():
    found = Annotations((Point(1, 0, 1),), (Region(box(0, 0, 4, 1), (), 0),))
    assert rasterise_points(found, image_shape=(1, 4), map_shape=(1, 4), size=1).tolist() == [[0, 1, 0, 0]]


def test_region_beyond_the_image_is_clipped():
    assert regions([Region(box(-5, -5, 2, 1), (), 1), Region(box(9, 9, 12, 12), (), 1)], (2, 3)) == [
        [1, 1, U],
        [U, U, U],
    ]


def test_region_scales_to_the_map_by_pixel_centres():
    assert regions([Region(box(0, 0, 5, 8), (), 1)], (2, 4), image_shape=(4, 8)) == [[1, 1, U, U], [1, 1, U, U]]


def test_random_polygons_agree_with_matplotlib():
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(15) + 0.5), axis=-1)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        ring = np.stack([10 + rng.uniform(2, 14, 9) * np.cos(angle), 7 + rng.uniform(2, 14, 9) * np.sin(angle)], axis=1)
        inside = Polygon(ring).contains_points(centres.reshape(-1, 2)).reshape(15, 20)
        drawn = rasterise_regions([Region(tuple(map(tuple, ring)), (), 1)], image_shape=(15, 20), map_shape=(15, 20))
        np.testing.assert_array_equal(drawn == 1, inside)


def test_region_points_are_different_seeded_pixel_centres_inside():
    region = Region(box(2, 1, 12, 11), (box(4, 3, 10, 9),), 0)
    points = region_points(region, count=20, seed=3)
    assert points == region_points(region, count=20, seed=3) != region_points(region, count=20, seed=4)
    assert len(set(points)) == 20
    for point in points:
        assert point.label == 0
        assert point.x % 1 == point.y % 1 == 0.5
        assert 2 < point.x < 12
        assert 1 < point.y < 11
        assert not (4 < point.x < 10 and 3 < point.y < 9)


def test_small_region_gives_all_its_pixels_and_an_empty_one_none():
    assert set(region_points(Region(box(0, 0, 2, 1), (), 1), seed=0)) == {Point(0.5, 0.5, 1), Point(1.5, 0.5, 1)}
    assert region_points(Region(box(0.6, 0.6, 0.9, 0.9), (), 1), seed=0) == ()
    assert region_points(Region(((1, 1), (1, 1), (1, 1)), (), 1), seed=0) == ()


def test_region_points_stay_in_the_image():
    region = Region(box(-50, -50, 2, 2), (), 1)
    assert {(point.x, point.y) for point in region_points(region, count=9, seed=0, image_shape=(5, 5))} == {
        (0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (1.5, 1.5)
    }  # fmt: skip
    assert region_points(Region(box(7, 7, 9, 9), (), 1), seed=0, image_shape=(5, 5)) == ()


def test_points_of_a_huge_region_are_pixel_centres_inside(monkeypatch):
    monkeypatch.setattr("cvm_monai.annotations.raster.MAX_LATTICE", 64)
    points = region_points(Region(((0, 0), (1000, 0), (0, 1000)), (), 1), count=9, seed=0)
    assert len(points) == 9
    assert all(point.x + point.y < 1000 and point.x % 1 == point.y % 1 == 0.5 for point in points)


def test_first_pairs_keeps_the_first_of_each_class():
    points = [Point(0, 0, 1), Point(1, 0, 1), Point(2, 0, 0), Point(3, 0, 1), Point(4, 0, 0)]
    assert first_pairs(points, 1) == (points[0], points[2])
    assert first_pairs(points, 2) == (*points[:3], points[4])
    assert first_pairs(points, 9) == tuple(points)
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        first_pairs(points, 0)
