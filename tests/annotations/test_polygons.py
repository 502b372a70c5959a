"""Regions of label maps: the same polygons as shapely's union of the pixels, whole or in strips."""

import numpy as np
import pytest
import shapely
from scipy import ndimage

from cvm_monai.annotations import Region, corners, rasterise_regions, regions_from_labels, regions_from_rows

MASKS = 120


def random_labels(seed):
    """A small map of one or two classes, at times smooth, with a class 255 here and there."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 16, size=2))
    if seed % 3:
        return rng.integers(0, rng.integers(2, 4), size=shape, dtype=np.uint8)
    smooth = ndimage.gaussian_filter(rng.random(shape), 1)
    return (smooth > np.quantile(smooth, rng.random())).astype(np.uint8)


def smooth_mask(size, *, sigma, share, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((size, size)), sigma)
    return (smooth > np.quantile(smooth, 1 - share)).astype(np.uint8)


def pixel_unions(labels):
    """(label, polygon) of each 4-connected region as shapely's union of its pixels' squares."""
    found = []
    for label in range(1, labels.max(initial=0) + 1):
        parts, count = ndimage.label(labels == label)
        for part in range(1, count + 1):
            row, column = np.nonzero(parts == part)
            found.append((label, shapely.union_all(shapely.box(column, row, column + 1, row + 1))))
    return found


def polygon(region):
    return shapely.Polygon(region.exterior, region.holes)


def text(shape):
    """A polygon written the same however it began, without vertices on straight lines."""
    rings = [shapely.LinearRing(straightened(ring)) for ring in (shape.exterior, *shape.interiors)]
    return shapely.normalize(shapely.Polygon(rings[0], rings[1:])).wkt


def straightened(ring):
    vertices = np.asarray(ring.coords)[:-1]
    before, after = vertices - np.roll(vertices, 1, axis=0), np.roll(vertices, -1, axis=0) - vertices
    return vertices[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


@pytest.mark.parametrize("seed", range(MASKS))
def test_regions_are_valid_and_equal_the_union_of_their_pixels(seed):
    labels = random_labels(seed)
    regions = regions_from_labels(labels)
    assert all(polygon(region).is_valid for region in regions)
    expected = sorted((label, text(shape)) for label, shape in pixel_unions(labels))
    assert sorted((region.label, text(polygon(region))) for region in regions) == expected


@pytest.mark.parametrize("seed", range(0, MASKS, 3))
def test_strips_of_every_height_give_the_regions_of_the_whole_in_the_same_order(seed):
    labels = random_labels(seed)
    probability = np.random.default_rng(seed).random(labels.shape)
    whole = list(regions_from_rows([(0, labels, probability)], mpp=0.5))
    for height in range(1, len(labels)):
        strips = [
            (row, labels[row : row + height], probability[row : row + height]) for row in range(0, len(labels), height)
        ]
        found = list(regions_from_rows(strips, mpp=0.5))
        assert [text(polygon(one.region)) for one in found] == [text(polygon(one.region)) for one in whole]
        assert [(one.region.label, one.pixels) for one in found] == [(one.region.label, one.pixels) for one in whole]
        means = [one.mean_probability for one in found]
        np.testing.assert_allclose(means, [one.mean_probability for one in whole], rtol=1e-12)


def test_a_large_strip_is_read_in_parts(monkeypatch):
    labels = smooth_mask(40, sigma=1.5, share=0.5)
    whole = regions_from_labels(labels)
    monkeypatch.setattr(corners, "AT_ONCE", 3 * 40)
    assert [text(polygon(region)) for region in regions_from_labels(labels)] == [text(polygon(one)) for one in whole]


def test_corners_found_in_blocks_of_rows_give_the_same_regions_to_the_bit(monkeypatch):
    labels = smooth_mask(40, sigma=1.0, share=0.5)
    strips = [(0, labels[:25], labels[:25] / 3), (25, labels[25:], labels[25:] / 3)]
    whole = list(regions_from_rows(strips, mpp=0.5))
    for rows in (1, 7):
        monkeypatch.setattr(corners, "BLOCK", rows * 40)
        assert list(regions_from_rows(strips, mpp=0.5)) == whole


def test_area_and_probability_are_those_of_the_pixels():
    labels = random_labels(6)
    probability = np.random.default_rng(0).integers(0, 256, size=labels.shape, dtype=np.uint8)
    parts, count = ndimage.label(labels == 1)
    found = list(regions_from_rows([(0, labels, probability)], mpp=0.25, scale=(4, 8)))
    assert len(found) == count
    index = range(1, count + 1)
    np.testing.assert_array_equal([one.pixels for one in found], ndimage.sum_labels(labels, parts, index))
    np.testing.assert_allclose([one.area_um2 for one in found], ndimage.sum_labels(labels, parts, index) * 4 * 8 / 16)
    means = [one.mean_probability for one in found]
    np.testing.assert_allclose(means, ndimage.mean(probability / 255, parts, index), rtol=1e-12)


def test_regions_come_in_the_order_of_their_first_pixel():
    labels = np.array([[0, 0, 2], [1, 0, 2], [1, 1, 0]], dtype=np.uint8)
    assert [region.label for region in regions_from_labels(labels)] == [2, 1]


@pytest.mark.parametrize(
    "rows, holes",
    [
        (["###", "#.#", "###"], [4]),
        (["####", "#..#", "#.##", "####"], [6]),
        (["#####", "#.#.#", "#####"], [4, 4]),
        (["####", "#.##", "##.#", "####"], [4, 4]),  # holes that touch at a corner
        ([".###", "#.##", "####"], [4]),  # a hole that touches the outside at a corner
        (["##.", "#.#", "###"], [4]),
    ],
)
def test_holes_are_inner_rings(rows, holes):
    mask = np.array([[pixel == "#" for pixel in row] for row in rows], dtype=np.uint8)
    regions = [region for region in regions_from_labels(mask) if region.holes]
    assert [len(hole) for region in regions for hole in region.holes] == holes
    assert sum(polygon(region).area for region in regions_from_labels(mask)) == mask.sum()


def test_pixels_that_touch_at_a_corner_are_two_regions():
    first, second = regions_from_labels(np.array([[1, 0], [0, 1]], dtype=np.uint8))
    assert set(first.exterior) == {(0, 0), (1, 0), (1, 1), (0, 1)}
    assert set(second.exterior) == {(1, 1), (2, 1), (2, 2), (1, 2)}


def test_an_exterior_runs_one_way_and_a_hole_the_other():
    (region,) = regions_from_labels(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=np.uint8))
    assert shapely.LinearRing(region.exterior).is_ccw
    assert not shapely.LinearRing(region.holes[0]).is_ccw


def test_a_full_mask_is_one_square_on_the_slide():
    (region,) = regions_from_labels(np.ones((3, 5), np.uint8), scale=(4, 2), origin=(100, 1000))
    assert set(region.exterior) == {(1000, 100), (1010, 100), (1010, 112), (1000, 112)}
    assert len(region.exterior) == 4


@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (3, 0)])
def test_an_empty_mask_has_no_regions(shape):
    assert regions_from_labels(np.zeros(shape, np.uint8)) == ()
    assert list(regions_from_rows([], mpp=0.5)) == []


def test_background_and_unlabelled_are_left_out_unless_asked_for():
    labels = np.array([[0, 1, 255]], dtype=np.uint8)
    assert [region.label for region in regions_from_labels(labels)] == [1]
    assert [region.label for region in regions_from_labels(labels, skip=())] == [0, 1, 255]


def test_small_regions_are_left_out_by_their_area_on_the_slide():
    labels = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], dtype=np.uint8)
    kept = list(regions_from_rows([(0, labels)], mpp=0.5, scale=(4, 4), min_area_um2=8))
    assert [one.area_um2 for one in kept] == [8, 12]
    assert len(regions_from_labels(labels, scale=(4, 4), min_area=33)) == 1


@pytest.mark.parametrize("scale", [(1.0, 1.0), (4.0003, 4.0007), (0.37, 0.4)])
def test_regions_drawn_again_are_the_mask(scale):
    labels = smooth_mask(60, sigma=1.2, share=0.5) * 2
    regions = regions_from_labels(labels, scale=scale)
    size = tuple(step * length for step, length in zip(scale, labels.shape, strict=True))
    drawn = rasterise_regions(regions, image_shape=size, map_shape=labels.shape)
    np.testing.assert_array_equal(np.where(drawn == 255, 0, drawn), labels)


@pytest.mark.parametrize("simplify_um", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("sigma, share", [(1.2, 0.4), (3.0, 0.6), (0.0, 0.5)])
def test_simplified_polygons_are_valid_and_keep_area_and_holes(simplify_um, sigma, share):
    strips = [(0, smooth_mask(128, sigma=sigma, share=share))]
    options = {"mpp": 0.5, "scale": (2.003, 2.003)}
    exact = list(regions_from_rows(strips, **options))
    simple = list(regions_from_rows(strips, **options, simplify_um=simplify_um))
    shapes = [polygon(one.region) for one in simple]
    assert all(shape.is_valid for shape in shapes)
    assert [len(one.region.holes) for one in simple] == [len(one.region.holes) for one in exact]
    change = [shape.area / polygon(one.region).area - 1 for shape, one in zip(shapes, exact, strict=True)]
    assert np.abs(change).max() <= 0.01 + 1e-9
    vertices = np.concatenate([ring for one in simple for ring in (one.region.exterior, *one.region.holes)])
    np.testing.assert_array_equal(vertices, np.round(vertices, 2))


def test_simplification_leaves_fewer_vertices_near_the_old_border():
    mask = smooth_mask(200, sigma=8, share=0.3)
    exact, simple = regions_from_labels(mask), regions_from_labels(mask, simplify=1.0)
    count = [sum(len(region.exterior) for region in regions) for regions in (exact, simple)]
    assert count[1] < count[0] / 2
    for old, new in zip(exact, simple, strict=True):
        assert shapely.hausdorff_distance(polygon(old).boundary, polygon(new).boundary) <= 1.0 + 0.01


def test_a_result_knows_no_probability_where_none_was_given():
    (one,) = regions_from_rows([(0, np.ones((1, 1), np.uint8))], mpp=2.0)
    assert one.region == Region(one.region.exterior, (), 1)
    assert (one.pixels, one.area_um2, one.mean_probability) == (1, 4.0, None)


ROW = np.ones((1, 4), np.uint8)


@pytest.mark.parametrize(
    "strips, message",
    [
        ([(0, ROW.astype(int))], r"labels must be \(H, W\) uint8 class indices, got \(1, 4\) int64"),
        ([(0, ROW[0])], r"got \(4,\) uint8"),
        ([(1, ROW)], "begins at row 1, but 0 rows were read"),
        ([(0, ROW), (2, ROW)], "begins at row 2, but 1 rows were read"),
        ([(0, ROW), (1, ROW[:, :3])], "the strip at row 1 is 3 px wide, those above 4"),
        ([(0, ROW, ROW[:, :3])], r"the probability has shape \(1, 3\), the labels beside it \(1, 4\)"),
        ([(0, ROW), (1, ROW, ROW)], "must have a probability if those above have one, and none otherwise"),
    ],
)
def test_strips_that_make_no_map_are_refused(strips, message):
    with pytest.raises(ValueError, match=message):
        regions_from_rows(strips, mpp=0.5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mpp": 0}, "mpp must be above 0"),
        ({"simplify_um": -1}, "simplify_um must be a number from 0, got -1"),
        ({"min_area_um2": float("nan")}, "min_area_um2 must be a number from 0, got nan"),
        ({"scale": (0, 1)}, r"scale must be level-0 pixels \(y, x\)"),
        ({"skip": (256,)}, "skip must be labels from 0 to 255"),
    ],
)
def test_tunables_out_of_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        regions_from_rows([(0, ROW)], **{"mpp": 0.5, **options})
