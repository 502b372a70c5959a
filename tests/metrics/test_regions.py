"""Pieces, boundaries and false alarms, counted by hand and against independent measures."""

from math import isnan, pi, sqrt

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.draw import disk
from skimage.measure import perimeter_crofton

from cvm_monai.metrics.regions import boundary_length, count_pieces, false_positives, hausdorff95


def array(*rows):
    """`#` is True."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def everywhere(mask):
    return np.ones_like(mask)


def blobs(seed, size=40):
    """A random mask that does not touch the frame."""
    mask = np.zeros((size, size), dtype=bool)
    mask[3:-3, 3:-3] = np.kron(np.random.default_rng(seed).random((17, 17)) > 0.5, np.ones((2, 2)))
    return mask


def test_false_positives_are_background_pixels_of_the_region_that_are_predicted():
    region = array("###.", "###.")
    predicted, target = array("##.#", "#..."), array("#...", "....")
    # background of the region: 5 pixels, of which (0, 1) and (1, 0) are predicted
    assert false_positives(predicted, target, region, everywhere(region)) == (2, 5)
    assert false_positives(predicted, target, region, array("#.##", "####")) == (1, 4)


TRUTH = array(
    "###......",
    "###....##",
    "###....##",
    ".........",
    "......##.",
)


def test_a_prediction_equal_to_the_truth_has_one_piece_in_each_region():
    pieces = count_pieces(TRUTH, TRUTH, everywhere(TRUTH))
    assert (pieces.predicted, pieces.true, pieces.found, pieces.inside) == (3, 3, 3, 3)


def test_fragments_count_inside_regions_and_specks_outside_only_among_the_predicted():
    predicted = array(
        "#.#......",
        "..#....#.",
        "#......#.",
        "...#.....",
        ".........",
    )
    pieces = count_pieces(predicted, TRUTH, everywhere(TRUTH))
    # left region: 3 pieces, right one: 1, lower one missed; the speck touches none
    assert (pieces.predicted, pieces.true, pieces.found, pieces.inside) == (5, 3, 2, 4)


def test_a_prediction_that_joins_two_regions_is_one_component_with_a_piece_in_each():
    predicted = np.zeros_like(TRUTH)
    predicted[1] = True
    pieces = count_pieces(predicted, TRUTH, everywhere(TRUTH))
    assert (pieces.predicted, pieces.found, pieces.inside) == (1, 2, 2)


def test_pixels_that_touch_at_a_corner_are_one_component():
    pieces = count_pieces(array("#.", ".#"), array("##", "##"), everywhere(array("..", "..")))
    assert (pieces.predicted, pieces.inside) == (1, 1)


def test_unknown_pixels_hold_no_piece():
    pieces = count_pieces(array("#.#"), array("###"), array("##."))
    assert (pieces.predicted, pieces.true, pieces.inside) == (1, 1, 1)


@pytest.mark.parametrize("side", [1, 4, 9])
def test_the_boundary_of_a_square_follows_from_its_crossings(side):
    mask = np.zeros((side + 4, side + 4), dtype=bool)
    mask[2:-2, 2:-2] = True
    # each of `side` rows and columns crosses it twice, each of 2 side - 1 diagonals of either kind as well
    expected = pi / 8 * (4 * side + 4 * (2 * side - 1) / sqrt(2))
    assert boundary_length(mask, everywhere(mask)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_boundary_is_the_perimeter_of_crofton(seed):
    mask = blobs(seed)
    assert boundary_length(mask, everywhere(mask)) == pytest.approx(perimeter_crofton(mask, directions=4))


def test_the_boundary_of_a_disc_is_its_circumference_within_one_percent():
    mask = np.zeros((101, 101), dtype=bool)
    mask[disk((50, 50), 40.5)] = True
    assert boundary_length(mask, everywhere(mask)) == pytest.approx(2 * pi * 40.5, rel=0.01)


def test_a_jagged_slope_is_longer_than_a_straight_one():
    row, column = np.indices((60, 60))
    straight, jagged = column > row, column > row // 4 * 4
    assert boundary_length(jagged, everywhere(jagged)) > 1.05 * boundary_length(straight, everywhere(straight))


def test_the_frame_and_unknown_pixels_are_no_boundary():
    mask = array("##", "##")
    assert boundary_length(mask, everywhere(mask)) == 0
    assert boundary_length(array("#..", "#.."), array("#.#", "#.#")) == 0
    assert isnan(hausdorff95(mask, array("#.", "#."), everywhere(mask)))


def brute_force(predicted, target):
    """Over 4-neighbours one by one, and all distances."""
    ends = []
    for mask in (predicted, target):
        padded = np.pad(mask, 1, mode="edge")
        ends.append([
            (r, c) for r, c in np.argwhere(mask)
            if not all((padded[r, c + 1], padded[r + 2, c + 1], padded[r + 1, c], padded[r + 1, c + 2]))
        ])  # fmt: skip
    distances = cdist(*ends)
    return max(np.percentile(distances.min(axis=0), 95), np.percentile(distances.min(axis=1), 95))


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_is_that_of_all_pairs(seed):
    predicted, target = blobs(seed), blobs(seed + 10)
    assert hausdorff95(predicted, target, everywhere(target)) == pytest.approx(brute_force(predicted, target))


def test_the_distance_is_that_of_monai_where_nothing_touches_the_frame():
    import torch
    from monai.metrics import compute_hausdorff_distance

    masks = [np.zeros((40, 40), dtype=bool) for _ in range(2)]
    masks[0][5:20, 5:25] = True
    masks[1][10:30, 8:35] = True
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    expected = float(compute_hausdorff_distance(*tensors, include_background=True, percentile=95))
    assert hausdorff95(*masks, everywhere(masks[0])) == pytest.approx(expected)


def test_a_shift_of_three_pixels_is_a_distance_of_three():
    target, predicted = np.zeros((30, 30), dtype=bool), np.zeros((30, 30), dtype=bool)
    target[:, 10:] = True
    predicted[:, 13:] = True
    assert hausdorff95(predicted, target, everywhere(target)) == 3


def test_an_empty_prediction_has_no_distance():
    target = blobs(0)
    assert isnan(hausdorff95(np.zeros_like(target), target, everywhere(target)))
