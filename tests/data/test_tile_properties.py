"""What holds of the tiles of every slide."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cvm_monai.data.tiles import BORDER, cover_points, grid, outside_part

TILE_SIDES = st.one_of(st.integers(8, 64), st.floats(8, 2000, allow_nan=False))
"""Of a tile at a slide's um/px, which need not be whole."""

SIDES = st.integers(8, 64)
EXTENTS = st.integers(1, 300)


@given(st.data(), SIDES, EXTENTS, EXTENTS)
def test_every_point_belongs_to_one_tile_that_holds_it_and_lies_in_the_slide(data, side, height, width):
    eighths = st.tuples(st.integers(0, 8 * width - 1), st.integers(0, 8 * height - 1), st.sampled_from([0, 1]))
    clicks = data.draw(st.lists(eighths, max_size=20))
    positions = np.array([(x / 8, y / 8) for x, y, _ in clicks]).reshape(-1, 2)
    labels = np.array([label for *_, label in clicks], dtype=int)
    tiles = cover_points(positions, labels, side=side, image_shape=(height, width))
    assert sorted(index for tile in tiles for index in tile.points) == list(range(len(clicks)))
    assert len({(tile.x, tile.y) for tile in tiles}) == len(tiles)
    for tile in tiles:
        assert 0 <= tile.x <= max(0, width - side)
        assert 0 <= tile.y <= max(0, height - side)
        for x, y in positions[list(tile.points)]:
            assert tile.x <= x < tile.x + side
            assert tile.y <= y < tile.y + side
            for place, corner, extent in ((x, tile.x, width), (y, tile.y, height)):
                if extent > side and 0 < corner < extent - side:  # no border of the slide in the way
                    assert side * BORDER - 1 <= place - corner <= side * (1 - BORDER) + 1


@settings(max_examples=200)
@given(TILE_SIDES, st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_no_two_tiles_lie_at_one_place_whatever_the_points_and_sizes(side, height, width, count, seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 1, (count, 2)) * (width, height)
    if seed % 2:  # clicks near the slide's borders, where tiles are moved inwards
        near = rng.integers(0, 2, (count, 2)) * (np.array((width, height)) - 1)
        positions = np.where(rng.random((count, 2)) < 0.7, np.abs(near - positions % (side / 8)), positions)
    positions = np.clip(positions, 0, np.nextafter((width, height), 0))
    tiles = cover_points(positions, rng.integers(0, 2, count), side=side, image_shape=(height, width))
    assert len({(tile.x, tile.y) for tile in tiles}) == len(tiles)
    assert sorted(index for tile in tiles for index in tile.points) == list(range(count))
    for tile in tiles:
        offset = positions[list(tile.points)] - (tile.x, tile.y)
        assert ((offset >= 0) & (offset < side)).all()


@given(SIDES, EXTENTS, EXTENTS)
def test_tiles_side_by_side_share_no_pixel_leave_less_than_one_free_and_stay_inside(side, height, width):
    corners = grid(side, (height, width))
    claims = np.zeros((max(height, side), max(width, side)), int)
    for x, y in corners:
        claims[y : y + side, x : x + side] += 1
        if min(height, width) >= side:
            assert x + side <= width
            assert y + side <= height
    covered = max(1, height // side) * side, max(1, width // side) * side
    assert (claims[: covered[0], : covered[1]] == 1).all()
    assert claims.sum() == covered[0] * covered[1]


@given(SIDES, EXTENTS, EXTENTS)
def test_the_part_outside_is_that_of_the_pixels_outside(side, height, width):
    from cvm_monai.data.tiles import Tile

    for x, y in grid(side, (height, width))[:5]:
        rows, columns = np.mgrid[y : y + side, x : x + side]
        beyond = (rows >= height) | (columns >= width)
        assert abs(outside_part(Tile(x, y), side=side, image_shape=(height, width)) - beyond.mean()) < 1e-12
