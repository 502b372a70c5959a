"""Score the paper's text claims on one image: false alarms in novel tissue, pieces, smooth borders, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.metrics.calibration import Reliability, reliability
from cvm_monai.metrics.objects import score_objects
from cvm_monai.metrics.regions import boundary_length, count_pieces, false_positives, hausdorff95
from cvm_monai.metrics.segmentation import IGNORED, check_pixels

ClaimName = Literal[
    "novel_fpr",
    "pieces",
    "region_ratio",
    "boundary_ratio",
    "hd95_px",
    "hd95_um",
    "ece",
    "brier",
    "object_dice",
    "object_f1",
]
CLAIMS: tuple[ClaimName, ...] = get_args(ClaimName)


@dataclass(frozen=True)
class ClaimCounts:
    """Numerators and denominators of the scores; counts of several images can be added.

    Attributes:
        pairs: numerator and denominator, by score.
        reliability: of the probability.
    """

    pairs: Mapping[ClaimName, tuple[float, float]]
    reliability: Reliability

    def __add__(self, other: "ClaimCounts") -> "ClaimCounts":
        pairs = {name: (a + other.pairs[name][0], b + other.pairs[name][1]) for name, (a, b) in self.pairs.items()}
        return ClaimCounts(pairs, self.reliability + other.reliability)

    def scores(self) -> dict[ClaimName, float]:
        """Compute the scores that follow from counts; NaN if a denominator is 0."""
        ratios = {name: a / b if b else float("nan") for name, (a, b) in self.pairs.items()}
        return {**ratios, "ece": self.reliability.ece, "brier": self.reliability.brier}


@dataclass(frozen=True)
class ClaimScores:
    """The scores of one image, or of all images pooled; NaN = undefined.

    Attributes:
        novel_fpr: fraction of the background in novel regions predicted as target; undefined without novel masks.
        pieces: mean number of connected components of the prediction inside a true region, over the regions that it
            covers at least partly; undefined if it covers none.
        region_ratio: connected components of the prediction / of the truth; undefined if the truth has none.
        boundary_ratio: length of the predicted / of the true boundary; undefined if the truth has no boundary.
        hd95_px: 95 % Hausdorff distance of the boundaries, px; undefined if either is empty, and when pooled.
        hd95_um: the same in micrometres; also undefined without a pixel size.
        ece: expected calibration error, 15 bins.
        brier: mean squared error of the probability.
        object_dice, object_f1: as in the GlaS challenge; undefined without object masks, and when pooled.
        counts: what can be pooled.
    """

    novel_fpr: float
    pieces: float
    region_ratio: float
    boundary_ratio: float
    hd95_px: float
    hd95_um: float
    ece: float
    brier: float
    object_dice: float
    object_f1: float
    counts: ClaimCounts


def score_claims(
    probability: np.ndarray,
    truth: np.ndarray,
    *,
    novel: np.ndarray | None = None,
    objects: np.ndarray | None = None,
    mpp: float | None = None,
    threshold: float = 0.5,
) -> ClaimScores:
    """Score one image.

    Args:
        probability: (H, W) float, of the target, in [0, 1].
        truth: (H, W), 1 = target, 0 = background, 255 = ignored.
        novel: (H, W), not 0 in regions unlike anything annotated; target pixels in them are left out.
        objects: (H, W) integers, the truth's objects by value, 0 = background.
        mpp: micrometres per pixel of these arrays.
        threshold: pixels above it are predicted as target; raising it predicts less; [0, 1).

    Raises:
        CvmError: as `score_image`; a novel or object mask of another shape; an mpp that is not above 0.
    """
    check_pixels(probability, truth, threshold)
    for name, mask in (("novel", novel), ("objects", objects)):
        if mask is not None and mask.shape != truth.shape:
            raise CvmError(f"{name} has shape {mask.shape} and truth {truth.shape}: they must be equal")
    if mpp is not None and not mpp > 0:
        raise CvmError(f"mpp is {mpp}: give micrometres per pixel above 0, or None where they are unknown")
    known, target = truth != IGNORED, truth == 1
    predicted = (probability > threshold) & known
    region = np.zeros_like(known) if novel is None else novel != 0
    pieces = count_pieces(predicted, target, known)
    pairs: dict[ClaimName, tuple[float, float]] = {
        "novel_fpr": false_positives(predicted, target, region, known),
        "pieces": (pieces.inside, pieces.found),
        "region_ratio": (pieces.predicted, pieces.true),
        "boundary_ratio": (boundary_length(predicted, known), boundary_length(target, known)),
    }
    counts = ClaimCounts(pairs, reliability(probability[known], target[known]))
    distance = hausdorff95(predicted, target, known)
    found = None if objects is None else score_objects(predicted, objects, known)
    return _claims(
        counts,
        hd95_px=distance,
        hd95_um=distance * mpp if mpp else float("nan"),
        object_dice=found.dice if found else float("nan"),
        object_f1=found.f1 if found else float("nan"),
    )


def pool_claims(scores: Sequence[ClaimScores]) -> ClaimScores:
    """Pool all images: ratios of summed counts, and the calibration of all pixels; distances and objects undefined.

    Raises:
        CvmError: no image.
    """
    if not scores:
        raise CvmError("there is no image to pool: score at least one")
    total = scores[0].counts
    for score in scores[1:]:
        total = total + score.counts
    return _claims(total)


def _claims(counts: ClaimCounts, **others: float) -> ClaimScores:
    values = dict.fromkeys(CLAIMS, float("nan")) | counts.scores() | others
    return ClaimScores(**{name: float(values[name]) for name in CLAIMS}, counts=counts)
