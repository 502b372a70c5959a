"""Outlines that cross themselves or have no area."""

from collections import Counter

import numpy as np
import pytest
import shapely

from cvm_monai.annotations import Region, rasterise_regions
from cvm_monai.annotations.repair import valid_regions

SQUARE = np.array([(1, 1), (9, 1), (9, 9), (1, 9)], dtype=float)
BOW_TIE = np.array([(0, 0), (8, 8), (8, 0), (0, 8)], dtype=float)
FLAT = np.array([(0, 0), (5, 5), (9, 9)], dtype=float)


def regions(*outlines):
    counts = Counter()
    return list(valid_regions([(rings, 1) for rings in outlines], counts)), dict(counts)


def drawn(found):
    return rasterise_regions(found, image_shape=(20, 20), map_shape=(20, 20))


def test_a_valid_outline_keeps_its_vertices():
    found, counts = regions((SQUARE, SQUARE[::-1] / 2 + 2))
    assert found == [Region(tuple(map(tuple, SQUARE)), (tuple(map(tuple, SQUARE[::-1] / 2 + 2)),), 1)]
    assert counts == {}


def test_a_bow_tie_becomes_two_triangles_counted_as_one():
    found, counts = regions((BOW_TIE,))
    assert counts == {"repaired": 1}
    assert sorted(shapely.Polygon(region.exterior).area for region in found) == [16, 16]


@pytest.mark.parametrize("rings", [(FLAT,), (FLAT[:2],), (FLAT[:0],), (), (SQUARE, SQUARE)])
def test_what_has_no_area_is_left_out_and_counted(rings):
    assert regions(rings) == ([], {"zero area": 1})


def test_a_hole_without_area_is_no_hole():
    assert regions((SQUARE, FLAT[:2])) == ([Region(tuple(map(tuple, SQUARE)), (), 1)], {})


@pytest.mark.parametrize("seed", range(20))
def test_repair_changes_no_pixel(seed):
    rng = np.random.default_rng(seed)
    rings = tuple(rng.uniform(0, 20, (count, 2)) for count in (9, 4, 5))
    raw = [Region(*(lambda exterior, *holes: (exterior, holes))(*(tuple(map(tuple, ring)) for ring in rings)), 1)]
    found, counts = regions(rings)
    assert counts == {"repaired": 1}
    for region in found:
        assert shapely.is_valid(shapely.Polygon(region.exterior, region.holes))
    np.testing.assert_array_equal(drawn(found), drawn(raw))


@pytest.mark.parametrize("seed", range(20))
def test_repair_changes_no_pixel_where_edges_go_back_over_each_other(seed):
    rng = np.random.default_rng(seed)
    ring = rng.integers(0, 8, (9, 2)) * (2.37, 2.41) + (0.03, 0.07)
    ring = np.insert(ring, 3, ring[[1, 2, 1]], axis=0)
    found, counts = regions((ring,))
    raw = [Region(tuple(map(tuple, ring)), (), 1)]
    assert counts == {"repaired": 1}
    np.testing.assert_array_equal(drawn(found), drawn(raw))


def test_an_outline_that_crosses_itself_everywhere_is_refused_by_its_place():
    mess = np.random.default_rng(0).uniform(0, 1000, (3000, 2))
    with pytest.raises(
        ValueError, match=r"a.geojson, feature 7: the outline of 3000 vertices crosses itself more than"
    ):
        list(valid_regions([((SQUARE,), 1), ((mess,), 1)], Counter(), places=["x", "a.geojson, feature 7"]))


def test_as_many_crossings_as_are_allowed_are_repaired():
    zigzag = np.stack([np.linspace(0, 19, 300), np.tile([2.0, 18.0], 150)], axis=1)
    back = np.stack([np.linspace(19, 0, 300), np.full(300, 10.0)], axis=1)
    found, counts = regions((np.concatenate([zigzag, back]),))
    assert counts == {"repaired": 1}
    assert len(found) > 250
    assert all(shapely.is_valid(shapely.Polygon(region.exterior, region.holes)) for region in found)
