"""Regions of two classes that lie on each other."""

import json
from collections import Counter

import numpy as np
import pytest

from cvm_monai.annotations import UNLABELLED, Annotations, Region, rasterise_regions, read_annotations, seed_points
from cvm_monai.annotations.nesting import EXCLUDED, OVERLAP, nest, overlap_warnings, with_overlaps
from cvm_monai.data.clip import RegionIndex
from cvm_monai.data.cutting import region_mask

U = UNLABELLED
CLASSES = {"Tumor": "target", "Stroma": "background"}


def box(left, top, right, bottom):
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def region(*corners, label, holes=()):
    return Region(box(*corners), tuple(box(*hole) for hole in holes), label)


def drawn(regions, shape=(40, 40)):
    counts = with_overlaps(Annotations((), tuple(regions)), file="a.geojson").counts
    return rasterise_regions(regions, image_shape=shape, map_shape=shape), dict(counts)


def ring_of(corners):
    return [list(vertex) for vertex in (*box(*corners), box(*corners)[0])]


@pytest.mark.parametrize("first", ["Tumor", "Stroma"])
def test_the_inner_region_of_a_file_wins_in_any_order(tmp_path, first):
    shapes = {"Stroma": (2, 2, 38, 38), "Tumor": (14, 14, 26, 26)}
    names = sorted(shapes, key=lambda name: name != first)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring_of(shapes[name])]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name in names
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_annotations(path, classes=CLASSES)
    labels = rasterise_regions(found.regions, image_shape=(40, 40), map_shape=(40, 40))
    expected = np.full((40, 40), U)
    expected[2:38, 2:38] = 0
    expected[14:26, 14:26] = 1
    np.testing.assert_array_equal(labels, expected)
    assert with_overlaps(found, file="a.geojson").counts == {}
    np.testing.assert_array_equal(region_mask(found.regions, shape=(40, 40)), expected == 1)


def test_nests_within_nests():
    boxes = [(0, 0, 40, 40), (5, 5, 35, 35), (10, 10, 30, 30), (15, 15, 25, 25)]
    regions = [region(*corners, label=number % 2) for number, corners in enumerate(boxes)]
    expected = np.full((40, 40), U)
    for number, (left, top, right, bottom) in enumerate(boxes):
        expected[top:bottom, left:right] = number % 2
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [3, 2, 1, 0]):
        labels, counts = drawn([regions[index] for index in order])
        np.testing.assert_array_equal(labels, expected)
        assert counts == {}


@pytest.mark.parametrize("seed", range(10))
def test_many_inner_regions_are_drawn_over_the_outer_one(seed):
    rng = np.random.default_rng(seed)
    regions, expected = [region(0, 0, 40, 40, label=0)], np.zeros((40, 40))
    for _ in range(30):
        left, top = rng.integers(0, 34, 2)
        right, bottom = np.add((left, top), rng.integers(2, 6, 2))
        regions.append(region(left, top, right, bottom, label=1))
        expected[top:bottom, left:right] = 1
    labels, counts = drawn([regions[index] for index in rng.permutation(len(regions))])
    np.testing.assert_array_equal(labels, expected)
    assert counts == {}


def test_an_inner_region_drawn_a_little_over_the_border_counts_as_inside():
    labels, counts = drawn([region(10.1, 9.95, 20, 20, label=1), region(0, 10, 40, 40, label=0)])
    assert counts == {}
    assert (labels[10:20, 10:20] == 1).all()


def test_overlaps_of_equals_stay_unlabelled_and_are_counted():
    apart = [region(0, 0, 20, 20, label=1), region(10, 0, 30, 20, label=0)]
    labels, counts = drawn(apart)
    assert counts == {OVERLAP: 1}
    assert (labels[:20, 10:20] == U).all()
    same = [region(0, 0, 20, 20, label=1), region(0, 0, 20, 20, label=0)]
    labels, counts = drawn(same)
    assert counts == {OVERLAP: 1}
    assert (labels == U).all()
    (sentence,) = overlap_warnings(counts, "a.geojson")
    assert sentence.startswith("a.geojson: 1 pair of regions of different classes overlap and neither lies inside")


def test_neighbours_and_regions_of_one_class_are_no_overlap():
    neighbours = [region(0, 0, 20, 20, label=1), region(19.99, 0, 40, 20, label=0)]
    assert nest(neighbours, counts := Counter()) == tuple(neighbours)
    assert counts == {}
    filled = [region(0, 0, 40, 40, label=0, holes=[(10, 10, 20, 20)]), region(10, 10, 20, 20, label=1)]
    assert nest(filled, counts) == tuple(filled)
    alike = [region(0, 0, 40, 40, label=1), region(10, 10, 20, 20, label=1)]
    assert nest(alike, counts) == tuple(alike)
    assert counts == {}


def test_exclusions_win_and_what_they_cover_is_counted():
    inside = [region(0, 0, 40, 40, label=U), region(10, 10, 20, 20, label=1)]
    labels, counts = drawn(inside)
    assert (labels == U).all()
    assert counts == {EXCLUDED: 1}
    (sentence,) = overlap_warnings(counts, "a.geojson")
    assert sentence.startswith("a.geojson: 1 region inside an exclusion: nothing is learnt there")
    hole = [region(0, 0, 40, 40, label=1), region(10, 10, 20, 20, label=U)]
    labels, counts = drawn(hole)
    assert (labels[10:20, 10:20] == U).all()
    assert counts == {}


def test_what_is_nested_stays_as_it_is():
    regions = [region(0, 0, 40, 40, label=0), region(10, 10, 20, 20, label=1), region(15, 15, 30, 17, label=2)]
    assert nest(nest(regions)) == nest(regions)


def test_an_overlap_of_equals_is_none_of_both_in_a_tile_that_shows_part_of_it():
    regions = nest([region(0, 0, 20, 40, label=1), region(10, 0, 40, 40, label=0)])
    clipped = RegionIndex(regions).clip((15, 0), shape=(20, 20), scale=(1.0, 1.0))
    labels = rasterise_regions(clipped, image_shape=(20, 20), map_shape=(20, 20))
    assert (labels[:, :5] == U).all()
    assert (labels[:, 5:] == 0).all()


@pytest.mark.parametrize("cover", [1, U])
def test_no_seed_point_lies_where_another_region_covers_its_own(cover):
    regions = (region(0, 0, 40, 40, label=0), region(2, 0, 45, 40, label=cover))
    points = seed_points(Annotations((), regions), image_shape=(40, 60))
    seeds = [point for point in points if point.label == 0]
    assert seeds
    assert all(point.x < 2 for point in seeds)
    assert all(point.x > 40 for point in points if point.label == 1)
    hidden = (region(5, 5, 15, 15, label=0), region(0, 0, 45, 40, label=U))
    assert {point.label for point in seed_points(Annotations((), hidden))} == {U}


def test_regions_that_lie_on_each_other_nearly_everywhere_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("cvm_monai.annotations.nesting.PAIRS", 50)
    contradicting = [region(place, 0, place + 20, 20, label=place % 2) for place in range(24)]
    with pytest.raises(ValueError, match=r"^a\.geojson: its 24 regions lie on .* in more than 120 pairs"):
        with_overlaps(Annotations((), tuple(contradicting)), file="a.geojson")
    apart = [region(30 * place, 0, 30 * place + 20, 20, label=place % 2) for place in range(24)]
    assert with_overlaps(Annotations((), tuple(apart)), file="a.geojson").counts == {}


def test_as_many_nested_regions_as_there_are_cells_are_taken():
    cells = [region(4 * x, 4 * y, 4 * x + 2, 4 * y + 2, label=1) for x in range(80) for y in range(80)]
    (outer, *others) = nest([region(-1, -1, 400, 400, label=0), *cells])
    assert len(outer.holes) == 6400
    assert len(others) == 6400
