"""The place where a click helps most."""

import numpy as np
import pytest

from cvm_monai.interactive.next_place import NextPlace, where_next


def test_it_is_the_innermost_pixel_of_the_largest_uncertain_region():
    u = np.zeros((10, 12))
    u[1:6, 1:6] = 0.5
    u[8:10, 8:12] = 0.5
    assert where_next(u) == NextPlace(3, 3, 25 / 120)


def test_a_region_at_the_border_is_measured_from_the_border():
    u = np.ones((9, 9))
    u[:3, :] = 0.6
    assert where_next(u) == NextPlace(1, 1, 27 / 81)


@pytest.mark.parametrize("value", [0.0, 0.2, 0.8, 1.0])
def test_where_u_is_certain_there_is_none(value):
    assert where_next(np.full((4, 4), value)) is None


def test_regions_that_touch_at_a_corner_are_two():
    u = np.zeros((6, 6))
    u[0:2, 0:2] = u[2:5, 2:5] = 0.5
    assert where_next(u) == NextPlace(3, 3, 9 / 36)
