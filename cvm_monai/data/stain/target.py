"""What the stains of a training set look like, fitted once, and images brought to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np

from cvm_monai.data.stain.density import restain
from cvm_monai.data.stain.macenko import LIGHT, StainEstimate, change_to, estimate_stains
from cvm_monai.data.stain.reinhard import ColourMoments, colour_moments, recolour
from cvm_monai.errors import CvmError
from cvm_monai.knobs import StainNormalisation


@dataclass(frozen=True)
class StainTarget:
    """The reference that images are brought to.

    Attributes:
        method: `macenko` or `reinhard`.
        reference: `StainEstimate` of the former, `ColourMoments` of the latter.
        images: that it was fitted on.
        left_out: images that showed too little tissue.
    """

    method: StainNormalisation
    reference: StainEstimate | ColourMoments
    images: int
    left_out: int = 0


def check_method(method: str) -> None:
    """CvmError for a method that there is not."""
    if method not in get_args(StainNormalisation):
        known = ", ".join(get_args(StainNormalisation))
        raise CvmError(f"--stain_normalisation must be one of {known}, got {method!r}")


def fit_target(images: Iterable[np.ndarray], *, method: StainNormalisation) -> StainTarget | None:
    """The median over images of each number that describes an image's stains; None for the method `none`.

    `macenko`: the stain vectors (their medians scaled to length one) and the strongest concentrations. `reinhard`: mean
    and spread of L*, a* and b*. The median lets a few images of another laboratory, or of ink, not matter.

    Args:
        images: (H, W, 3) uint8 RGB each, looked at one by one.
        method: how.

    Raises:
        CvmError: an unknown method, or no image with enough tissue.
    """
    check_method(method)
    if method == "none":
        return None
    found = [estimate_stains(image) if method == "macenko" else colour_moments(image) for image in images]
    known = [one for one in found if one is not None]
    if not known:
        raise CvmError(
            f"none of the {len(found)} training images shows enough stained tissue for --stain_normalisation {method}: "
            "use none"
        )
    return StainTarget(method, _median(known), len(known), len(found) - len(known))


def normalise_stain(image: np.ndarray, target: StainTarget) -> np.ndarray | None:
    """The image with the target's stains, (H, W, 3) uint8; None where it shows too little tissue to know its own.

    Args:
        image: (H, W, 3) uint8 RGB, whole: its own stains are estimated from it.
        target: of `fit_target`.
    """
    change = stain_change(image, target)
    return None if change is None else change(image)


def stain_change(sample: np.ndarray, target: StainTarget) -> Callable[[np.ndarray], np.ndarray] | None:
    """What brings (H, W, 3) uint8 pixels of the sample's slide to the target; None: the sample shows too little tissue.

    The parts of one slide must be changed alike: each by its own stains would leave seams.

    Args:
        sample: (H, W, 3) uint8 RGB, whose stains are estimated.
        target: of `fit_target`.
    """
    if isinstance(target.reference, StainEstimate):
        own = estimate_stains(sample)
        return None if own is None else partial(restain, change=change_to(own, target.reference), light=LIGHT)
    moments = colour_moments(sample)
    return None if moments is None else partial(recolour, source=moments, target=target.reference)


def _median(found: list[StainEstimate | ColourMoments]) -> StainEstimate | ColourMoments:
    stains = [one for one in found if isinstance(one, StainEstimate)]
    if stains:
        vectors = np.median([one.vectors for one in stains], axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return StainEstimate(vectors, np.median([one.strongest for one in stains], axis=0))
    moments = [one for one in found if isinstance(one, ColourMoments)]
    return ColourMoments(
        np.median([one.mean for one in moments], axis=0), np.median([one.spread for one in moments], axis=0)
    )
