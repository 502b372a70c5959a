"""Scores of three classes: each against all else, and their mean."""

import csv

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_score, roc_auc_score

from cvm_monai.metrics import (
    ClassScores,
    PooledClassScores,
    class_metrics,
    class_summary_markdown,
    score_classes,
    score_image,
    write_per_class_csv,
)
from cvm_monai.metrics.classes import macro_mean

TRUTH = np.array([[0, 0, 1, 1, 2, 255]], dtype=np.uint8)
PREDICTED = np.array([[0, 1, 1, 2, 2, 1]])
NAMES = ["target", "lymphoid"]


def certain(labels: np.ndarray, classes: int = 3) -> np.ndarray:
    return (np.arange(classes)[:, None, None] == labels).astype(float)


def test_dice_of_each_class_by_hand():
    """Target: one of two found, one too many, 2 / 4. Class 2: the one found, one too many, 2 / 3."""
    target, second = score_classes(certain(PREDICTED), TRUTH)
    assert (target.dice, second.dice) == (pytest.approx(1 / 2), pytest.approx(2 / 3))
    assert (target.accuracy, second.accuracy) == (pytest.approx(3 / 5), pytest.approx(4 / 5))
    assert (target.n_pixels, target.n_target, target.n_predicted) == (5, 2, 2)


def test_each_class_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=(12, 13)).transpose(2, 0, 1)
    truth = rng.integers(3, size=(12, 13))
    likeliest = probabilities.argmax(0)
    found = score_classes(probabilities, truth)
    assert len(found) == 2
    for label, scores in enumerate(found, start=1):
        one, other = (truth == label).ravel(), (likeliest == label).ravel()
        assert scores.precision == pytest.approx(precision_score(one, other))
        assert scores.kappa == pytest.approx(cohen_kappa_score(one, other))
        assert scores.auc == pytest.approx(roc_auc_score(one, probabilities[label].ravel()))


def test_two_classes_score_as_the_binary_metric_does():
    rng = np.random.default_rng(1)
    p, truth = rng.random((9, 8)), rng.integers(2, size=(9, 8))
    assert score_classes(np.stack([1 - p, p]), truth) == (score_image(p, truth),)


def test_pooled_scores_are_those_of_all_pixels_side_by_side():
    pooled = PooledClassScores(3)
    parts = [(certain(PREDICTED[:, :3]), TRUTH[:, :3]), (certain(PREDICTED[:, 3:]), TRUTH[:, 3:])]
    for probabilities, truth in parts:
        pooled.update(probabilities, truth)
    whole = score_classes(certain(PREDICTED), TRUTH)
    assert [scores.dice for scores in pooled.compute()] == [scores.dice for scores in whole]


def test_the_mean_over_classes_leaves_out_what_is_undefined():
    assert macro_mean([0.25, float("nan"), 0.75]) == 0.5
    assert np.isnan(macro_mean([float("nan")]))
    absent = np.where(TRUTH == 2, 0, TRUTH)  # nor is class 2 predicted
    row = ClassScores("a", "p", score_classes(certain(np.minimum(PREDICTED, 1)), absent))
    assert row.mean("dice") == row.scores[0].dice


def rows() -> list[ClassScores]:
    scores = [score_classes(certain(labels), TRUTH) for labels in (PREDICTED, np.where(TRUTH == 255, 0, TRUTH))]
    return [ClassScores(name, "p", score) for name, score in zip("ab", scores, strict=True)]


def test_the_table_has_the_means_and_each_class(tmp_path):
    write_per_class_csv(tmp_path / "out" / "per_case.csv", rows(), names=NAMES)
    with (tmp_path / "out" / "per_case.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["dice_target"], first["dice_lymphoid"], first["dice"]) == ("0.500000", "0.666667", "0.583333")
    assert (second["dice"], second["n_pixels"]) == ("1.000000", "5")


def test_the_summary_and_the_metrics_say_the_same():
    pooled = score_classes(certain(PREDICTED), TRUTH)
    text = class_summary_markdown(rows(), pooled, names=NAMES, facts={"method": "cvm"}, resolution="its own size")
    assert "2 images of 1 patient, 2 foreground classes." in text
    assert "## lymphoid" in text
    assert "- method: cvm" in text
    found = class_metrics(rows(), pooled, names=NAMES)
    assert found["test_dice"] == pytest.approx((7 / 12 + 1) / 2)
    assert found["test_dice_target"] == pytest.approx(0.75)
    assert found["test_pooled_dice"] == pytest.approx(7 / 12)
    assert "| Dice | 0.792 ± 0.295 | 2 | 0.583 |" in text


@pytest.mark.parametrize(
    "probabilities, truth, sentence",
    [
        (np.ones((2, 2)), TRUTH, r"probabilities have shape \(2, 2\) and truth \(1, 6\): give \(C, H, W\)"),
        (certain(PREDICTED, 2), TRUTH, "truth holds 2, the classes go from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities, truth, sentence):
    with pytest.raises(ValueError, match=sentence):
        score_classes(probabilities, truth)


def test_a_prediction_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="predicted is int64 of shape"):
        score_image(np.zeros((1, 6)), (TRUTH == 1).astype(int), predicted=PREDICTED)
