"""The messages of constants that are out of their range."""

import math

import pytest

from cvm_monai.losses.checks import check_number, check_whole


def test_values_at_the_bounds_pass():
    check_number("a", 0)
    check_number("a", 1, high=1)
    check_number("a", 1, high=1, above=True)
    check_whole("n", 2, low=2)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, "1", None, True])
def test_a_number_out_of_its_range_is_named(value):
    with pytest.raises(ValueError, match=rf"^a must be a finite number of at least 0, got {value!r}$"):
        check_number("a", value)


def test_the_sentence_says_which_bounds_belong():
    with pytest.raises(ValueError, match=r"^a must be a finite number greater than 0, got 0$"):
        check_number("a", 0, above=True)
    with pytest.raises(ValueError, match=r"^a must lie in \[0, 1\], got 1\.5$"):
        check_number("a", 1.5, high=1)
    with pytest.raises(ValueError, match=r"^a must lie in \(0, 1\], got 0$"):
        check_number("a", 0, high=1, above=True)
    with pytest.raises(ValueError, match=r"^n must be a whole number of at least 2, got 2\.0$"):
        check_whole("n", 2.0, low=2)
    with pytest.raises(ValueError, match=r"^n must be a whole number of at least 1, got True$"):
        check_whole("n", True, low=1)
