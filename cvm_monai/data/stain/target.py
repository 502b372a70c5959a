"""Fit the reference stains of a training set, and normalise images to them."""

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
    """The reference to which images are normalised.

    Attributes:
        method: `macenko` or `reinhard`.
        reference: `StainEstimate` of the former, `ColourMoments` of the latter.
        images: number of images that it was fitted to.
        left_out: number of images with too little tissue.
    """

    method: StainNormalisation
    reference: StainEstimate | ColourMoments
    images: int
    left_out: int = 0


def check_method(method: str) -> None:
    """Raise CvmError for an unknown method."""
    if method not in get_args(StainNormalisation):
        known = ", ".join(get_args(StainNormalisation))
        raise CvmError(f"--stain_normalisation must be one of {known}, got {method!r}")


def fit_target(images: Iterable[np.ndarray], *, method: StainNormalisation) -> StainTarget | None:
    """Compute the median over images of each stain parameter; None for the method `none`.

    `macenko`: the stain vectors (their medians scaled to length one) and the strongest concentrations. `reinhard`: mean
    and spread of L*, a* and b*. The median is robust to a few images of another laboratory, or with ink.

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
    """Normalise an image to the target's stains, (H, W, 3) uint8; None if it has too little tissue to estimate its own.

    Args:
        image: (H, W, 3) uint8 RGB, whole: its own stains are estimated from it.
        target: of `fit_target`.
    """
    change = stain_change(image, target)
    return None if change is None else change(image)


def stain_change(sample: np.ndarray, target: StainTarget) -> Callable[[np.ndarray], np.ndarray] | None:
    """Make the function that normalises (H, W, 3) uint8 pixels of the sample's slide; None if it has too little tissue.

    All parts of a slide need the same change: estimating stains for each part would leave seams.

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
