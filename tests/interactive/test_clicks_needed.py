"""The simulated annotator of the benchmark: where it clicks, and what it counts."""

import numpy as np
import pytest

BENCHMARK = "clicks_needed"


def test_the_middle_is_the_pixel_of_the_largest_part_farthest_from_its_border(benchmark):
    region = np.zeros((9, 12), dtype=bool)
    region[1:6, 1:6] = True
    region[7:9, 8:12] = True
    assert benchmark.middle(region) == (3, 3)


def test_clicks_go_where_the_error_is_largest_until_nothing_is_wrong(benchmark):
    """The answer knows squares of 4 around each click; the target is two of them."""
    mask = np.zeros((12, 12), dtype=bool)
    mask[0:4, 0:4] = mask[8:12, 8:12] = True
    asked = []

    def answer(inside, outside):
        asked.append((len(inside), len(outside)))
        found = np.zeros((12, 12))
        for row, column in inside:
            found[4 * (row // 4) : 4 * (row // 4) + 4, 4 * (column // 4) : 4 * (column // 4) + 4] = 1
        return found

    scores = benchmark.annotate(mask, answer, most=6)
    assert asked == [(1, 1), (2, 1)]
    assert scores == pytest.approx([2 * 16 / (16 + 32), 1, 1, 1, 1])


def test_the_clicks_needed_count_images_that_never_reach_a_level_as_the_most(benchmark):
    row = benchmark._row([[0.7, 0.82, 0.86], [0.5, 0.5, 0.5]], most=4)
    assert row == ["0.600", "3.5 (50 %)", "4.0 (50 %)", "4.0 (0 %)"]
