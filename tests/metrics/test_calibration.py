"""Calibration against a loop over bins, and answers known beforehand."""

from math import isnan

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from cvm_monai.metrics.calibration import BINS, reliability


def brute_force_ece(probability, target):
    total = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        chosen = (probability >= low) & ((probability < high) | (number == BINS - 1))
        if chosen.any():
            total += chosen.mean() * abs(probability[chosen].mean() - target[chosen].mean())
    return total


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    probability = rng.random(5000) ** 2
    return probability, rng.random(5000) < probability**1.5


def test_calibration_error_and_brier_score_are_those_of_a_loop_and_of_scikit_learn(pixels):
    found = reliability(*pixels)
    assert found.ece == pytest.approx(brute_force_ece(*pixels))
    assert found.brier == pytest.approx(brier_score_loss(pixels[1], pixels[0]))


def test_parts_add_up_to_the_whole(pixels):
    probability, target = pixels
    parts = reliability(probability[:1000], target[:1000]) + reliability(probability[1000:], target[1000:])
    whole = reliability(probability, target)
    assert parts.pixels.tolist() == whole.pixels.tolist()
    assert parts.ece == pytest.approx(whole.ece)
    assert parts.brier == pytest.approx(whole.brier)


def test_errors_of_opposite_sign_cancel_in_one_bin_only():
    # 0.5 said four times, half of them target: perfectly calibrated, and yet of no use
    even = reliability(np.full(4, 0.5), np.array([True, False, True, False]))
    assert even.ece == 0
    assert even.brier == pytest.approx(0.25)
    # 0.9 and 0.1 said, always the other: |0.9 - 0| and |0.1 - 1|
    wrong = reliability(np.array([0.9, 0.1]), np.array([False, True]))
    assert wrong.ece == pytest.approx(0.9)
    assert wrong.brier == pytest.approx(0.81)


def test_both_ends_of_the_scale_have_a_bin_and_rounding_beyond_them_is_cut():
    found = reliability(np.array([0.0, 1.0, 1.0005, -0.0005]), np.array([False, True, True, False]))
    assert found.pixels[0] == found.pixels[-1] == 2
    assert found.ece == found.brier == 0


def test_no_pixel_has_no_calibration():
    found = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    assert isnan(found.ece)
    assert isnan(found.brier)
