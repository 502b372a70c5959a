"""Object Dice and F1 of the GlaS challenge, for masks that give each object its own value.

Sirinukunwattana et al., Gland segmentation in colon histology images: The GlaS challenge contest, Medical Image
Analysis 35, 2017.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cvm_monai.metrics.regions import EIGHT

HALF = 0.5
"""Fraction of a true object that must be covered for it to count as found."""


@dataclass(frozen=True)
class ObjectScores:
    """Scores of one image's objects; NaN if neither truth nor prediction has any.

    Attributes:
        dice: each object's Dice with the object of the other side that overlaps it most (0 if none does), weighted by
            area; the mean of true objects against predicted ones and of predicted against true ones.
        f1: 2 TP / (2 TP + FP + FN). A predicted object is matched to the true object that it overlaps most, and is a
            true positive if it covers at least half of that one, else a false positive; a true object without a true
            positive is a false negative.
    """

    dice: float
    f1: float


def holds_instances(masks: Iterable[np.ndarray]) -> bool:
    """Whether these masks number objects: one of them has two or more values beside 0."""
    return any(np.count_nonzero(np.unique(mask)) > 1 for mask in masks)


def object_labels(mask: np.ndarray) -> np.ndarray | None:
    """Return an object mask; None if a single value fills several components, as in a binary mask.

    Only meaningful for masks of a data set for which `holds_instances` is true.
    """
    if np.count_nonzero(np.unique(mask)) == 1 and ndimage.label(mask != 0, EIGHT)[1] > 1:
        return None
    return mask


def score_objects(predicted: np.ndarray, objects: np.ndarray, known: np.ndarray) -> ObjectScores:
    """Score the connected components of a prediction (8 neighbours) against true objects.

    Args:
        predicted: (H, W) bool.
        objects: (H, W) integers, 0 = background, every other value one object.
        known: (H, W) bool, False for ignored pixels.
    """
    found = ndimage.label(predicted & known, EIGHT)[0]
    inside = known & (objects != 0)
    values = np.unique(objects[inside])
    labels = np.zeros(objects.shape, dtype=np.int64)
    labels[inside] = np.searchsorted(values, objects[inside]) + 1
    shape = (len(values) + 1, int(found.max()) + 1)
    table = np.bincount((labels * shape[1] + found).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    areas = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    overlap = table[1:, 1:]
    if not overlap.shape[0] and not overlap.shape[1]:
        return ObjectScores(float("nan"), float("nan"))
    if 0 in overlap.shape:
        return ObjectScores(0.0, 0.0)
    return ObjectScores(
        dice=(_weighted_dice(overlap, *areas) + _weighted_dice(overlap.T, *areas[::-1])) / 2,
        f1=_f1(overlap, areas[0]),
    )


def _weighted_dice(overlap: np.ndarray, own: np.ndarray, other: np.ndarray) -> float:
    """Mean Dice of each row's object with the column's that overlaps it most, weighted by the row's area."""
    partner = overlap.argmax(axis=1)
    dice = 2 * overlap[np.arange(len(own)), partner] / (own + other[partner])
    return float((own / own.sum()) @ dice)


def _f1(overlap: np.ndarray, true_areas: np.ndarray) -> float:
    truth = overlap.argmax(axis=0)
    covered = overlap[truth, np.arange(overlap.shape[1])] >= HALF * true_areas[truth]
    tp, fp = int(covered.sum()), int((~covered).sum())
    fn = len(true_areas) - len(np.unique(truth[covered]))
    return 2 * tp / (2 * tp + fp + fn)
