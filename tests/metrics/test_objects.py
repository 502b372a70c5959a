"""Object-level Dice and F1 of the GlaS challenge, counted by hand and against a plain loop."""

from math import isnan

import numpy as np
import pytest
from skimage.measure import label

from cvm_monai.metrics.objects import holds_instances, object_labels, score_objects

TRUE = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 7, 7]])
"""Objects of 4, 2 and 2 pixels."""


def score(predicted, objects, known=None):
    predicted, objects = np.asarray(predicted, dtype=bool), np.asarray(objects)
    return score_objects(predicted, objects, np.ones(objects.shape, dtype=bool) if known is None else known)


def test_the_truth_itself_scores_one():
    found = score(TRUE != 0, TRUE)
    assert (found.dice, found.f1) == (1, 1)


def test_a_partly_covered_a_missed_and_an_invented_object():
    # predicted: 2 of the 4 pixels of object 1 (half: found); a pixel of none; object 7 whole; object 2 missed
    found = score([[1, 1, 0, 0, 1, 0, 0, 0, 1, 1]], TRUE)
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    true_side = (4 * (2 * 2 / 6) + 2 * 0 + 2 * 1) / 8
    predicted_side = (2 * (2 * 2 / 6) + 1 * 0 + 2 * 1) / 5
    assert found.dice == pytest.approx((true_side + predicted_side) / 2)


def test_less_than_half_of_an_object_is_both_a_false_positive_and_a_false_negative():
    found = score([[1, 0, 0, 0]], [[1, 1, 1, 0]])
    assert found.f1 == 0
    assert found.dice == pytest.approx(2 * 1 / 4)


def test_one_prediction_over_two_objects_finds_one_of_them():
    found = score([[1, 1, 1, 1, 1]], [[1, 1, 1, 2, 2]])
    assert found.f1 == pytest.approx(2 / 3)
    assert found.dice == pytest.approx(((3 * (6 / 8) + 2 * (4 / 7)) / 5 + 6 / 8) / 2)


def test_two_halves_of_one_object_are_two_true_positives():
    assert score([[1, 1, 0, 1, 1]], [[1, 1, 0, 1, 1]]).f1 == 1


def test_an_object_that_is_not_predicted_at_all_or_not_there():
    assert (score([[0, 0]], [[1, 0]]).dice, score([[0, 0]], [[1, 0]]).f1) == (0, 0)
    assert (score([[1, 0]], [[0, 0]]).dice, score([[1, 0]], [[0, 0]]).f1) == (0, 0)
    assert isnan(score([[0, 0]], [[0, 0]]).dice)
    assert isnan(score([[0, 0]], [[0, 0]]).f1)


def test_unknown_pixels_belong_to_no_object():
    known = np.array([[True, True, False, False]])
    assert score([[1, 1, 1, 1]], [[1, 1, 1, 2]], known).f1 == 1


def test_an_image_full_of_objects_has_no_background_among_them():
    found = score([[1, 1], [1, 1]], [[3, 3], [3, 3]])
    assert (found.dice, found.f1) == (1, 1)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def brute_force_dice(predicted, objects):
    found = label(predicted, connectivity=2)
    sides = []
    for own, other in ((objects, found), (found, objects)):
        total = 0.0
        for value in np.unique(own[own > 0]):
            mask = own == value
            overlaps = np.bincount(other[mask], minlength=other.max() + 1)
            overlaps[0] = 0
            partner = other == overlaps.argmax() if overlaps.any() else np.zeros_like(mask)
            total += mask.sum() / (own > 0).sum() * (dice(mask, partner) if partner.any() else 0.0)
        sides.append(total)
    return sum(sides) / 2


@pytest.mark.parametrize("seed", range(3))
def test_the_dice_is_that_of_a_loop_over_objects(seed):
    rng = np.random.default_rng(seed)
    objects = label(np.kron(rng.random((10, 10)) > 0.6, np.ones((6, 6), dtype=bool)), connectivity=1)
    predicted = np.roll(objects > 0, (1, 2), (0, 1)) & (rng.random(objects.shape) > 0.1)
    assert score(predicted, objects).dice == pytest.approx(brute_force_dice(predicted, objects))


def test_masks_tell_objects_apart_where_one_has_several_values():
    assert holds_instances([np.array([0, 255]), np.array([0, 1, 2])])
    assert not holds_instances([np.array([0, 255]), np.array([0, 1]), np.array([0])])


def test_one_value_in_several_places_is_no_object():
    assert object_labels(np.array([[0, 5, 5, 0]])) is not None
    assert object_labels(np.array([[5, 0, 5]])) is None
    assert object_labels(np.array([[1, 0, 2, 0, 1]])) is not None
    assert object_labels(np.array([[0, 0]])) is not None
