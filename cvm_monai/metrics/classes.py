"""Scores of more than two classes: each foreground class against all others, and their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.metrics.segmentation import IGNORED, ImageScores, MetricName, PooledScores, score_image


@dataclass(frozen=True)
class ClassScores:
    """The scores of one case: of each foreground class, in the order of their numbers from 1."""

    case_id: str
    patient_id: str
    scores: tuple[ImageScores, ...]

    def mean(self, name: MetricName) -> float:
        """Mean of a score over the foreground classes for which it is defined; NaN if there is none."""
        return macro_mean([getattr(scores, name) for scores in self.scores])


def macro_mean(values: Sequence[float]) -> float:
    """Mean of the defined values, each class with the same weight; NaN if none is defined."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def score_classes(probabilities: np.ndarray, truth: np.ndarray) -> tuple[ImageScores, ...]:
    """Score each foreground class of one image separately: its pixels against all others.

    The prediction is the most probable class (argmax); the AUC uses the class's own probability.

    Args:
        probabilities: (C, H, W) float in [0, 1], background first.
        truth: (H, W), class numbers, 255 = ignored.

    Raises:
        CvmError: arrays of different or wrong shapes, or values outside these ranges.
    """
    return tuple(
        score_image(probability, target, predicted=predicted)
        for probability, target, predicted in _one_against_rest(probabilities, truth)
    )


class PooledClassScores:
    """Accumulates `PooledScores` of each foreground class, one image at a time.

    Args:
        classes: number of classes, background included.
    """

    def __init__(self, classes: int) -> None:
        self._pooled = [PooledScores() for _ in range(1, classes)]

    def update(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Accumulate one image; arguments and errors as in `score_classes`."""
        for pooled, (probability, target, predicted) in zip(
            self._pooled, _one_against_rest(probabilities, truth), strict=True
        ):
            pooled.update(probability, target, predicted=predicted)

    def compute(self) -> tuple[ImageScores, ...]:
        """Compute the scores so far, in the order of the classes from 1."""
        return tuple(pooled.compute() for pooled in self._pooled)


def _one_against_rest(probabilities: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return probability, truth (0, 1, 255) and prediction (bool) of each foreground class."""
    if probabilities.ndim != 3 or probabilities.shape[1:] != truth.shape:
        raise CvmError(
            f"probabilities have shape {probabilities.shape} and truth {truth.shape}: give (C, H, W) and (H, W)"
        )
    known = truth != IGNORED
    if (truth[known] >= len(probabilities)).any():
        raise CvmError(f"truth holds {int(truth[known].max())}, the classes go from 0 to {len(probabilities) - 1}")
    likeliest = probabilities.argmax(axis=0)
    return [
        (
            probabilities[label],
            np.where(known, truth == label, IGNORED).astype(np.uint8),
            likeliest == label,
        )
        for label in range(1, len(probabilities))
    ]
