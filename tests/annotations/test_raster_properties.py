"""Rasterising against the rule written out for each pixel alone."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cvm_monai.annotations import Point, Region, rasterise_points, rasterise_regions

SIDES = st.integers(1, 12)
VERTICES = st.tuples(st.integers(-8, 40), st.integers(-8, 40)).map(lambda pair: (pair[0] / 2, pair[1] / 2))
"""Multiples of a half: many lie on pixel centres and on the lines between them, and all arithmetic on them is exact."""


def inside(ring, x, y):
    """Even-odd by a ray to the left in exact arithmetic; a border belongs to what lies on its right and below."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(ring, (*ring[1:], ring[0]), strict=True):
        if (y0 <= y) != (y1 <= y):
            at = Fraction(x0) + (Fraction(y) - Fraction(y0)) * (Fraction(x1) - Fraction(x0)) / (
                Fraction(y1) - Fraction(y0)
            )
            crossings += at <= x
    return crossings % 2 == 1


@given(st.lists(VERTICES, min_size=3, max_size=8), st.lists(VERTICES, min_size=3, max_size=5), SIDES, SIDES)
def test_a_pixel_is_in_a_region_exactly_where_its_centre_is(exterior, hole, height, width):
    shape = (height, width)
    drawn = rasterise_regions([Region(tuple(exterior), (tuple(hole),), 1)], image_shape=shape, map_shape=shape)
    for row in range(height):
        for column in range(width):
            centre = Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)
            expected = inside(exterior, *centre) and not inside(hole, *centre)
            assert drawn[row, column] == (1 if expected else 255)


@given(st.data(), SIDES, SIDES, st.integers(1, 5), st.integers(1, 5))
def test_a_point_labels_the_pixel_that_the_floor_of_its_coordinates_names(data, height, width, down, across):
    x = data.draw(st.integers(0, 8 * width * across - 1)) / 8  # eighths: exact
    y = data.draw(st.integers(0, 8 * height * down - 1)) / 8
    image_shape = (height * down, width * across)
    drawn = rasterise_points([Point(x, y, 0)], image_shape=image_shape, map_shape=(height, width), size=1)
    expected = np.full((height, width), 255)
    expected[floor(Fraction(y) / down), floor(Fraction(x) / across)] = 0
    np.testing.assert_array_equal(drawn, expected)


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9), st.sampled_from([0, 1])), max_size=6),
    st.sampled_from([1, 3, 5]),
)
def test_squares_of_points_label_what_one_class_alone_claims(clicks, size):
    points = [Point(float(x), float(y), label) for x, y, label in clicks]
    drawn = rasterise_points(points, image_shape=(10, 12), map_shape=(10, 12), size=size)
    for row in range(10):
        for column in range(12):
            near = {label for x, y, label in clicks if max(abs(x - column), abs(y - row)) <= size // 2}
            here = {label for x, y, label in clicks if (x, y) == (column, row)}
            claims = here or near
            assert drawn[row, column] == (claims.pop() if len(claims) == 1 else 255)
