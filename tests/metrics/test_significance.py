"""Holm's correction, Wilcoxon's test and intervals over patients, by hand."""

from math import isnan

import numpy as np
import pytest

from cvm_monai.metrics import grouped_bootstrap, holm, paired_wilcoxon


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_fewer():
    # sorted 0.01, 0.02, 0.03, 0.5 -> x4, x3, x2, x1 = 0.04, 0.06, 0.06, 0.5
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])


def test_holm_never_puts_a_larger_p_below_a_smaller_one_nor_above_1():
    # 0.02 x 3 = 0.06; 0.021 x 2 = 0.042 is raised to 0.06; 0.9 stays
    assert holm([0.02, 0.021, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_refuses_what_is_no_p():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got \[1.5\]"):
        holm([1.5])


def test_all_of_six_differences_on_one_side_have_the_exact_p_of_two_in_64():
    assert paired_wilcoxon([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 64)
    assert paired_wilcoxon([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0]) == pytest.approx(2 / 64)  # a tie is left out


def test_one_small_step_back_among_six_has_p_of_four_in_64():
    # rank sum of the negative one is 1: reached by {} and {1} on either side, 4 of 64 sign patterns
    assert paired_wilcoxon([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(4 / 64)


def test_equal_scores_do_not_differ():
    assert paired_wilcoxon([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("differences", [[], [0.1, float("nan")]])
def test_undefined_differences_are_refused(differences):
    with pytest.raises(ValueError, match="differences must be a list of finite numbers"):
        paired_wilcoxon(differences)


def _difference(means):
    return means[..., 0] - means[..., 1]


def test_an_interval_over_patients_is_wider_than_over_their_equal_images():
    scores = np.array([[0.6, 0.5]] * 10 + [[0.5, 0.5]] * 10)
    patients = ["a"] * 10 + ["b"] * 10
    interval = grouped_bootstrap(scores, patients, _difference)
    # drawing two of {0.1, 0}: 0.1, 0.05, 0 with probability 1/4, 1/2, 1/4
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.05, 0.0, 0.1))


def test_a_patient_with_more_images_weighs_more():
    scores = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert grouped_bootstrap(scores, ["a", "b", "b"], _difference).mean == pytest.approx(1 / 3)


def test_an_interval_whose_statistic_is_often_undefined_has_no_ends():
    def ratio(means):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(means[..., 1] > 0, means[..., 0] / means[..., 1], np.nan)

    interval = grouped_bootstrap(np.array([[1.0, 1.0], [0.0, 0.0]]), ["a", "b"], ratio)  # undefined in a quarter
    assert interval.mean == 1
    assert isnan(interval.low)
    assert isnan(interval.high)


@pytest.mark.parametrize(
    "scores, groups, message",
    [
        (np.ones((2, 2)), ["a", "a"], "there is 1 group"),
        (np.array([[1, np.nan], [1, 1]]), ["a", "b"], "without NaN for 2 images"),
    ],
)
def test_what_cannot_be_resampled_is_refused(scores, groups, message):
    with pytest.raises(ValueError, match=message):
        grouped_bootstrap(scores, groups, _difference)
