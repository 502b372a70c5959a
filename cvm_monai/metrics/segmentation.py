"""Dice, accuracy, precision, Cohen's kappa and AUC of a binary segmentation, for one image and over all pixels."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import logit
from scipy.stats import rankdata

from cvm_monai.errors import CvmError

MetricName = Literal["dice", "accuracy", "precision", "kappa", "auc"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
IGNORED = 255
"""Ground truth value of pixels that are ignored in every score."""

ROUNDING = 1e-3
"""Tolerance on probabilities outside [0, 1], for rounding in half precision and interpolation."""

BINS, LOGIT_RANGE = 10_000, 20.0


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image, or of all images pooled; NaN = undefined.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|); undefined if neither truth nor prediction has a target pixel.
        accuracy: fraction of correctly classified pixels.
        precision: fraction of the pixels predicted as target that are target; undefined if there are none.
        kappa: Cohen's kappa, agreement beyond chance; undefined if truth and prediction are one and the same class.
        auc: area under the ROC curve; undefined if the truth has one class only.
        n_pixels: pixels that were scored (ignored ones are not).
        n_target: target pixels of the truth.
        n_predicted: target pixels of the prediction.
        one_class: the truth lacks target or background.
    """

    dice: float
    accuracy: float
    precision: float
    kappa: float
    auc: float
    n_pixels: int
    n_target: int
    n_predicted: int
    one_class: bool


def score_image(
    probability: np.ndarray, truth: np.ndarray, *, threshold: float = 0.5, predicted: np.ndarray | None = None
) -> ImageScores:
    """Score one image.

    The AUC is exact: the Mann-Whitney rank statistic with ties counted half, in O(n log n).

    Args:
        probability: (H, W) float, of the target, in [0, 1].
        truth: (H, W), 1 = target, 0 = background, 255 = ignored.
        threshold: pixels above it are predicted as target; raising it predicts less; [0, 1).
        predicted: (H, W) bool, the prediction, in place of the threshold (such as the argmax of many classes).

    Raises:
            CvmError: arrays of different or wrong shapes, or values outside these ranges.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> truth = np.array([[1, 1, 0, 0]])
        >>> round(cvm.score_image(np.array([[0.9, 0.2, 0.1, 0.1]]), truth).dice, 3)
        0.667
    """
    score, target = _known_pixels(probability, truth, threshold)
    chosen = score > threshold if predicted is None else _known_prediction(predicted, truth)
    return _scores(*_confusion(chosen, target), auc=_rank_auc(score, target))


def dice_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Compute the Dice of `score_image` alone, for a prediction (H, W) bool; NaN = undefined.

    Raises:
        CvmError: a prediction that is not bool, or not of the truth's shape.
    """
    tp, fp, fn, _ = _confusion(_known_prediction(predicted, truth), (truth == 1)[truth != IGNORED])
    return _ratio(2 * tp, 2 * tp + fp + fn)


class PooledScores:
    """Accumulates scores over all pixels of all images, one image at a time, in constant memory.

    Large images have more weight than small ones, and no image is left out. All scores are exact except the AUC, which
    is computed from one histogram of the probability per class: 10 000 bins of equal width in logit(p) from -20 to 20,
    so that the dense ends near 0 and 1 are resolved too. Two pixels in one bin count as a tie; `auc_bound` is the
    largest error from this, usually below 1e-3.

    Args:
        threshold: as in `score_image`.
    """

    def __init__(self, *, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self._counts = np.zeros(4, dtype=np.int64)
        self._histograms = np.zeros((2, BINS), dtype=np.int64)

    def update(self, probability: np.ndarray, truth: np.ndarray, *, predicted: np.ndarray | None = None) -> None:
        """Accumulate one image; arguments and errors as in `score_image`."""
        score, target = _known_pixels(probability, truth, self.threshold)
        chosen = score > self.threshold if predicted is None else _known_prediction(predicted, truth)
        self._counts += _confusion(chosen, target)
        position = logit(np.clip(score, 0, 1, dtype=np.float64))
        scaled = (np.clip(position, -LOGIT_RANGE, LOGIT_RANGE) + LOGIT_RANGE) * (BINS / (2 * LOGIT_RANGE))
        bins = np.minimum(scaled.astype(np.int64), BINS - 1)
        for row, chosen in zip(self._histograms, (~target, target), strict=True):
            row += np.bincount(bins[chosen], minlength=BINS)

    def compute(self) -> ImageScores:
        """Compute the scores so far; `one_class` means that all images together lack target or background."""
        background, target = self._histograms.astype(np.float64)
        below = np.cumsum(background) - background
        pairs = background.sum() * target.sum()
        auc = float(target @ (below + 0.5 * background) / pairs) if pairs else np.nan
        return _scores(*self._counts, auc=auc)

    @property
    def auc_bound(self) -> float:
        """Upper bound on the difference between the AUC of `compute` and the exact one; NaN if that is undefined."""
        background, target = self._histograms.astype(np.float64)
        pairs = background.sum() * target.sum()
        return float(0.5 * (background @ target) / pairs) if pairs else np.nan


def check_pixels(probability: np.ndarray, truth: np.ndarray, threshold: float) -> None:
    """Check the arrays and the threshold of `score_image`.

    Raises:
        CvmError: arrays of different or wrong shapes, invalid values of the probability or the truth, or a threshold
            outside [0, 1).
    """
    if probability.ndim != 2 or probability.size == 0 or probability.shape != truth.shape:
        raise CvmError(
            f"probability has shape {probability.shape} and truth {truth.shape}: give two equal (H, W) arrays, resized "
            "to the image's resolution"
        )
    if not (probability.min() >= -ROUNDING and probability.max() <= 1 + ROUNDING):
        raise CvmError("probability has values outside [0, 1] or NaN: give the softmax of the logits")
    if not 0 <= threshold < 1:
        raise CvmError(f"threshold is {threshold}: give a number from 0 to below 1")
    if not ((truth == 0) | (truth == 1) | (truth == IGNORED)).all():
        wrong = sorted(set(np.unique(truth).tolist()) - {0, 1, IGNORED})
        raise CvmError(f"truth holds {wrong[:5]}: only 0 (background), 1 (target) and {IGNORED} (ignored) may occur")


def _known_pixels(probability: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and truth (bool) of the pixels that are not ignored, both (n,), after checking all values."""
    check_pixels(probability, truth, threshold)
    known = truth != IGNORED
    return probability[known], (truth == 1)[known]


def _known_prediction(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the prediction (bool) of the pixels that are not ignored."""
    if predicted.dtype != bool or predicted.shape != truth.shape:
        raise CvmError(f"predicted is {predicted.dtype} of shape {predicted.shape}: give bool of {truth.shape}")
    known: np.ndarray = predicted[truth != IGNORED]
    return known


def _confusion(predicted: np.ndarray, target: np.ndarray) -> tuple[int, int, int, int]:
    """Count true positives, false positives, false negatives and true negatives."""
    tp = int(np.count_nonzero(predicted & target))
    n_predicted, n_target = int(np.count_nonzero(predicted)), int(np.count_nonzero(target))
    return tp, n_predicted - tp, n_target - tp, target.size - n_predicted - n_target + tp


def _rank_auc(score: np.ndarray, target: np.ndarray) -> float:
    """P(score of a target pixel > score of a background pixel) + P(equal) / 2."""
    n_target = int(np.count_nonzero(target))
    pairs = n_target * (target.size - n_target)
    if pairs == 0:
        return float("nan")
    rank_sum = float(rankdata(score)[target].sum())
    return (rank_sum - n_target * (n_target + 1) / 2) / pairs


def _scores(tp: int, fp: int, fn: int, tn: int, *, auc: float) -> ImageScores:
    """Compute all scores from the confusion table, in Python's integers, which do not overflow."""
    tp, fp, fn, tn = int(tp), int(fp), int(fn), int(tn)
    return ImageScores(
        dice=_ratio(2 * tp, 2 * tp + fp + fn),
        accuracy=_ratio(tp + tn, tp + fp + fn + tn),
        precision=_ratio(tp, tp + fp),
        kappa=_ratio(2 * (tp * tn - fn * fp), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)),
        auc=auc,
        n_pixels=tp + fp + fn + tn,
        n_target=tp + fn,
        n_predicted=tp + fp,
        one_class=tp + fn == 0 or fp + tn == 0,
    )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
