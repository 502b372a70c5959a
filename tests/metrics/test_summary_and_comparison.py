"""Means over images and intervals of paired differences."""

from math import isnan, sqrt

import numpy as np
import pytest
from scipy.stats import bootstrap

from cvm_monai.metrics import ImageScores, paired_bootstrap, summarise


def _scores(dice, *, auc=0.9, one_class=False):
    return ImageScores(dice, 0.8, 0.7, 0.6, auc, 100, 0 if one_class else 40, 30, one_class)


def test_an_undefined_value_leaves_its_image_out_of_that_metric_alone():
    summary = summarise([_scores(0.5), _scores(0.9), _scores(float("nan"), auc=float("nan"), one_class=True)])
    dice, accuracy = summary.metrics["dice"], summary.metrics["accuracy"]
    assert (dice.mean, dice.n, dice.left_out) == (pytest.approx(0.7), 2, 1)
    assert dice.sd == pytest.approx(0.4 / sqrt(2))  # n - 1 = 1: sqrt(0.2^2 + 0.2^2)
    assert (accuracy.mean, accuracy.n, accuracy.left_out) == (pytest.approx(0.8), 3, 0)
    assert (summary.n_images, summary.n_one_class) == (3, 1)


def test_one_image_has_a_mean_and_no_spread():
    dice = summarise([_scores(0.5)]).metrics["dice"]
    assert dice.mean == 0.5
    assert isnan(dice.sd)


def test_a_metric_that_no_image_defines_has_no_mean():
    auc = summarise([_scores(0.0, auc=float("nan"), one_class=True)] * 2).metrics["auc"]
    assert isnan(auc.mean)
    assert (auc.n, auc.left_out) == (0, 2)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="no image to summarise"):
        summarise([])


def test_the_interval_is_that_of_scipy_up_to_resampling_noise():
    values = np.random.default_rng(0).normal(0.03, 0.1, size=40)
    ours = paired_bootstrap(values, level=0.9)
    theirs = bootstrap((values,), np.mean, method="percentile", confidence_level=0.9).confidence_interval
    assert ours.mean == pytest.approx(values.mean(), abs=1e-15)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=2e-3)


def test_two_values_give_the_binomial_quantiles():
    # means of two draws from {0, 1}: 0, 1/2, 1 with probability 1/4, 1/2, 1/4
    assert paired_bootstrap([0.0, 1.0], level=0.95).low == 0
    narrow = paired_bootstrap([0.0, 1.0], level=0.3)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_equal_differences_give_an_interval_of_no_width():
    interval = paired_bootstrap([0.25] * 5)
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_the_seed_decides_and_chunks_do_not_matter(monkeypatch):
    values = np.arange(7.0)
    whole = paired_bootstrap(values, resamples=500, seed=3)
    monkeypatch.setattr("cvm_monai.metrics.comparison.CHUNK", 30)
    assert paired_bootstrap(values, resamples=500, seed=3) == whole
    assert paired_bootstrap(values, resamples=500, seed=4) != whole


@pytest.mark.parametrize(
    "values, options, message",
    [
        ([0.1], {}, "at least two paired differences"),
        ([[0.1, 0.2]], {}, r"shape \(1, 2\)"),
        ([0.1, float("nan")], {}, "differences holds NaN"),
        ([0.1, 0.2], {"level": 1.0}, "level is 1.0"),
        ([0.1, 0.2], {"resamples": 0}, "resamples is 0"),
    ],
)
def test_what_cannot_be_resampled_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(values, **options)
