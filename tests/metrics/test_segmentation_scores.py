"""One image and pooled pixels: hand-written tables, scikit-learn as the oracle."""

from math import isnan

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, precision_score, roc_auc_score

from cvm_monai.metrics import METRICS, PooledScores, score_image


def _image(seed, *, shape=(23, 31), decimals=2, separation=1.0, target=0.3):
    """A probability with many ties and a truth that it partly knows."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(shape) < target).astype(np.uint8)
    logits = rng.normal(size=shape) + separation * (2.0 * truth - 1)
    return np.round(1 / (1 + np.exp(-logits)), decimals), truth


def test_a_two_by_two_image_is_scored_as_by_hand():
    # predicted: 1 1 / 0 0, truth: 1 0 / 1 0 -> TP FP FN TN = 1 1 1 1
    scores = score_image(np.array([[0.9, 0.6], [0.4, 0.1]]), np.array([[1, 0], [1, 0]]))
    assert (scores.dice, scores.accuracy, scores.precision, scores.kappa) == (0.5, 0.5, 0.5, 0.0)
    assert scores.auc == 0.75  # of four pairs (0.9, 0.4) x (0.6, 0.1) three are in order
    assert (scores.n_pixels, scores.n_target, scores.n_predicted, scores.one_class) == (4, 2, 2, False)


def test_a_perfect_image_scores_one_everywhere():
    scores = score_image(np.array([[0.9, 0.2], [0.8, 0.1]]), np.array([[1, 0], [1, 0]]))
    assert [getattr(scores, name) for name in METRICS] == [1.0] * 5


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_scikit_learn(seed):
    probability, truth = _image(seed)
    scores = score_image(probability, truth, threshold=0.4)
    flat, predicted = truth.ravel(), (probability > 0.4).ravel()
    assert scores.dice == pytest.approx(f1_score(flat, predicted), abs=1e-12)
    assert scores.accuracy == pytest.approx(accuracy_score(flat, predicted), abs=1e-12)
    assert scores.precision == pytest.approx(precision_score(flat, predicted), abs=1e-12)
    assert scores.kappa == pytest.approx(cohen_kappa_score(flat, predicted), abs=1e-12)
    assert scores.auc == pytest.approx(roc_auc_score(flat, probability.ravel()), abs=1e-12)


def test_ignored_pixels_change_nothing():
    probability, truth = _image(4)
    framed_truth = np.pad(truth, 3, constant_values=255)
    framed = np.pad(probability, 3, constant_values=0.99)
    assert score_image(framed, framed_truth) == score_image(probability, truth)


def test_a_pixel_at_the_threshold_is_not_predicted():
    assert score_image(np.array([[0.5, 0.51]]), np.array([[1, 1]])).n_predicted == 1


@pytest.mark.parametrize(
    "probability, truth, undefined, one_class",
    [
        ([[0.1, 0.2]], [[0, 0]], {"dice", "precision", "kappa", "auc"}, True),
        ([[0.9, 0.2]], [[0, 0]], {"auc"}, True),
        ([[0.9, 0.8]], [[1, 1]], {"kappa", "auc"}, True),
        ([[0.1, 0.2]], [[1, 0]], {"precision"}, False),
        ([[0.1, 0.2]], [[255, 255]], set(METRICS), True),
    ],
)
def test_what_an_image_does_not_define_is_nan(probability, truth, undefined, one_class):
    scores = score_image(np.array(probability), np.array(truth))
    assert {name for name in METRICS if isnan(getattr(scores, name))} == undefined
    assert scores.one_class is one_class


def test_a_false_alarm_on_an_image_without_target_has_dice_zero():
    assert score_image(np.array([[0.9, 0.2]]), np.array([[0, 0]])).dice == 0


@pytest.mark.parametrize(
    "probability, truth, message",
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"shape \(2, 3\) and truth \(3, 2\)"),
        (np.zeros(4), np.zeros(4), r"shape \(4,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.full((1, 2), 1.5), np.zeros((1, 2)), r"outside \[0, 1\] or NaN"),
        (np.array([[np.nan, 0.5]]), np.zeros((1, 2)), r"outside \[0, 1\] or NaN"),
        (np.zeros((1, 2)), np.array([[0, 7]]), r"truth holds \[7\]"),
    ],
)
def test_impossible_arrays_are_refused(probability, truth, message):
    with pytest.raises(ValueError, match=message):
        score_image(probability, truth)


def test_an_impossible_threshold_is_refused():
    with pytest.raises(ValueError, match=r"threshold is 1\.0"):
        score_image(np.zeros((1, 2)), np.zeros((1, 2)), threshold=1.0)


def _all_pixels(images):
    return (np.concatenate([image[index].ravel() for image in images]) for index in (0, 1))


def test_pooling_equals_scoring_all_pixels_as_one_image():
    images = [_image(seed, shape=(9 + seed, 14)) for seed in range(4)]
    pooled = PooledScores(threshold=0.3)
    for probability, truth in images:
        pooled.update(probability, truth)
    one = score_image(*(part[None] for part in _all_pixels(images)), threshold=0.3)
    got = pooled.compute()
    assert got.auc == pytest.approx(one.auc, abs=1e-12)  # two decimals: no two values share a bin
    for name in ("dice", "accuracy", "precision", "kappa", "n_pixels", "n_target", "n_predicted", "one_class"):
        assert getattr(got, name) == getattr(one, name)


@pytest.mark.parametrize("separation, target, largest", [(0.5, 0.3, 1e-3), (1.5, 0.05, 1e-3), (0.3, 0.5, 1e-3)])
def test_the_pooled_auc_is_within_its_bound_of_the_exact_one(separation, target, largest):
    images = [_image(seed, decimals=15, separation=separation, target=target) for seed in range(5)]
    pooled = PooledScores()
    for probability, truth in images:
        pooled.update(probability.astype(np.float32), truth)
    probability, truth = _all_pixels(images)
    error = abs(pooled.compute().auc - roc_auc_score(truth, probability.astype(np.float32)))
    assert error <= pooled.auc_bound + 1e-12
    assert 0 < pooled.auc_bound < largest


def test_the_bound_is_half_of_the_pairs_that_share_a_bin():
    # two target and two background pixels; one pair of four shares a bin, in the wrong order
    pooled = PooledScores()
    pooled.update(np.array([[0.5, 0.9, 0.50001, 0.1]]), np.array([[1, 1, 0, 0]]))
    assert pooled.auc_bound == 0.125
    assert pooled.compute().auc == 0.875  # exact: 0.75


def test_crowded_ends_near_zero_are_still_told_apart():
    pooled = PooledScores()
    pooled.update(np.array([[2e-6, 1e-6, 0.0, 1.0]]), np.array([[1, 0, 0, 1]]))
    assert pooled.compute().auc == 1.0
    assert pooled.auc_bound == 0.0


def test_an_image_of_one_class_is_pooled_like_any_other():
    pooled = PooledScores()
    pooled.update(np.array([[0.9, 0.2]]), np.array([[1, 1]]))
    assert isnan(pooled.compute().auc)
    assert isnan(pooled.auc_bound)
    pooled.update(np.array([[0.1, 0.95]]), np.array([[0, 0]]))
    got = pooled.compute()
    assert (got.dice, got.auc, got.one_class) == (0.5, 0.5, False)


def test_before_the_first_image_nothing_is_defined():
    assert all(isnan(getattr(PooledScores().compute(), name)) for name in METRICS)
