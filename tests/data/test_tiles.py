import numpy as np
import pytest

from cvm_monai.data.tiles import (
    BORDER,
    Tile,
    check_tile_size,
    cover_points,
    grid,
    outside_part,
    overlap,
    place,
    spread_tiles,
)

SHAPE = (1000, 2000)
"""(height, width)"""


def cover(*points, side=160, shape=SHAPE):
    """Points are (x, y, label)."""
    array = np.array(points, dtype=float).reshape(-1, 3)
    return cover_points(array[:, :2], array[:, 2].astype(int), side=side, image_shape=shape)


def test_a_lone_point_lies_in_the_middle_of_its_tile():
    assert cover((500, 300, 1)) == (Tile(420, 220, (0,)),)


def test_no_points_need_no_tile():
    assert cover() == ()


def test_points_together_share_a_tile_around_their_middle():
    assert cover((500, 300, 1), (600, 340, 0)) == (Tile(470, 240, (0, 1)),)


def test_points_too_far_apart_for_the_border_to_stay_free_get_two_tiles():
    assert cover((500, 300, 1), (640, 300, 0)) == (Tile(490, 220, (0, 1)),)  # 140 px = 160 px less two borders of 10
    assert cover((500, 300, 1), (641, 300, 0)) == (Tile(420, 220, (0,)), Tile(561, 220, (1,)))


def test_a_tile_of_both_classes_is_preferred_to_one_of_more_points():
    three_above, one_below = [(510, 200, 1), (520, 180, 1), (530, 190, 1)], (505, 420, 0)
    tiles = cover((500, 300, 1), *three_above, one_below)
    assert [tile.points for tile in tiles] == [(1, 2, 3), (0, 4)]
    tiles = cover((500, 300, 1), *three_above, (505, 420, 1))
    assert [tile.points for tile in tiles] == [(0, 1, 2, 3), (4,)]


def test_a_tile_stays_inside_the_slide():
    assert cover((3, 5, 1), (1995, 990, 0)) == (Tile(0, 0, (0,)), Tile(1840, 840, (1,)))


def test_a_slide_smaller_than_a_tile_has_one_at_its_corner():
    assert cover((3, 5, 1), (90, 70, 0), shape=(80, 100)) == (Tile(0, 0, (0, 1)),)
    assert outside_part(Tile(0, 0), side=160, image_shape=(80, 100)) == 1 - 8000 / 25600


def test_a_tile_that_was_moved_takes_what_it_now_holds():
    assert cover((3, 5, 1), (149, 100, 0)) == (Tile(0, 0, (0, 1)),)


def test_points_at_the_slides_border_do_not_get_the_same_tile_again():
    assert cover((500, 300, 1), (10, 490, 0), side=512, shape=(512, 512)) == (Tile(0, 0, (0, 1)),)


@pytest.mark.parametrize("clicks", range(200))
def test_ten_random_clicks_on_a_region_of_1000_px_never_give_a_tile_twice(clicks):
    rng = np.random.default_rng(clicks)
    tiles = cover_points(rng.uniform(0, 1000, (10, 2)), rng.integers(0, 2, 10), side=1024, image_shape=(1000, 1000))
    assert [(tile.x, tile.y) for tile in tiles] == [(0, 0)]


@pytest.mark.parametrize("seed", range(4))
def test_every_point_is_in_exactly_one_tile_and_away_from_its_border(seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 1, (300, 2)) * SHAPE[::-1]
    side = (100, 160.7, 333.3, 900)[seed]
    tiles = cover_points(positions, rng.integers(0, 2, 300), side=side, image_shape=SHAPE)
    assert sorted(index for tile in tiles for index in tile.points) == list(range(300))
    for tile in tiles:
        assert 0 <= tile.x <= SHAPE[1] - side + 1
        assert 0 <= tile.y <= SHAPE[0] - side + 1
        inside = positions[list(tile.points)] - (tile.x, tile.y)
        assert ((inside >= 0) & (inside < side)).all()
        for axis, (corner, extent) in enumerate(zip((tile.x, tile.y), SHAPE[::-1], strict=True)):
            near = (inside[:, axis] < side * BORDER - 1) | (inside[:, axis] > side * (1 - BORDER) + 1)
            assert not near.any() or corner == 0 or corner + side >= extent


def test_the_order_of_points_does_not_matter():
    rng = np.random.default_rng(0)
    positions, labels, order = rng.uniform(0, 1000, (200, 2)), rng.integers(0, 2, 200), rng.permutation(200)
    one = cover_points(positions, labels, side=128, image_shape=SHAPE)
    other = cover_points(positions[order], labels[order], side=128, image_shape=SHAPE)
    assert [(tile.x, tile.y) for tile in one] == [(tile.x, tile.y) for tile in other]
    assert [tile.points for tile in one] == [tuple(sorted(order[list(tile.points)].tolist())) for tile in other]


def test_few_tiles_cover_points_on_a_line():
    """On a line the greedy choice is the best one: 20 points, 100 px apart, two in each tile of 160 px."""
    assert len(cover(*((50 + 100 * index, 300, index % 2) for index in range(20)))) == 10


def test_the_grid_holds_whole_tiles_side_by_side():
    assert grid(300.5, (700, 1000)).tolist() == [[0, 0], [300, 0], [601, 0], [0, 300], [300, 300], [601, 300]]
    assert grid(300, (100, 200)).tolist() == [[0, 0]]


def test_tissue_tiles_are_spread_over_what_is_free():
    corners, tissue = grid(100, (100, 1000)), np.array([1, 0.4, 1, 1, 1, 0.5, 0, 1, 1, 1])
    assert [tile.x for tile in spread_tiles(corners, tissue, count=3, side=100)] == [0, 500, 900]
    taken = (Tile(350, 40),)
    assert [tile.x for tile in spread_tiles(corners, tissue, count=9, side=100, taken=taken)] == [
        0, 200, 500, 700, 800, 900,
    ]  # fmt: skip
    assert spread_tiles(corners, tissue, count=0, side=100) == ()
    assert spread_tiles(corners, tissue * 0, count=3, side=100) == ()


def test_overlap_forgives_rounding_to_whole_pixels():
    assert overlap(Tile(0, 0), Tile(98, 98), 100)
    assert not overlap(Tile(0, 0), Tile(99, 0), 100)


def test_a_place_is_moved_inwards():
    assert place((500.2, 10), side=99, image_shape=SHAPE) == (451, 0)
    assert place((1990, 990), side=99.5, image_shape=SHAPE) == (1901, 901)


@pytest.mark.parametrize("size", [0, 32, 100, 1000])
def test_sizes_that_no_network_takes(size):
    with pytest.raises(ValueError, match=f"--tile must be a multiple of 32 px, from 64, got {size}"):
        check_tile_size(size)


def test_a_tile_that_does_not_fit_into_memory_is_refused():
    check_tile_size(16_384)
    with pytest.raises(ValueError, match=r"--size must be at most 16384 px, .* got 100000"):
        check_tile_size(100_000, "--size")
