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


def test_places_are_chosen_by_the_mask_by_u_or_by_chance(benchmark):
    mask = np.zeros((9, 9), dtype=bool)
    mask[:, :5] = True
    u = np.where(mask, 0.9, 0.1)
    u[3:6, 6:9] = 0.8
    u[0:5, 0:3] = 0.55
    rng = np.random.default_rng(0)
    assert benchmark.at_largest_error(mask, u, rng) == (4, 7)
    assert benchmark.at_where_next(mask, u, rng) == (1, 1)
    assert benchmark.at_largest_error(mask, mask * 1.0, rng) is None
    row, column = benchmark.at_where_next(mask, mask * 1.0, rng)
    assert 0 <= row < 9
    assert 0 <= column < 9
    curve = benchmark.annotate(mask, lambda *_: u, most=5, place=benchmark.at_random)
    assert len(curve) == 4
