"""MONAI dictionary transforms of an image's stains: at random, by a factor, or to a training set's own."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

from cvm_monai.data.stain.density import STAINS, concentration_change, restain
from cvm_monai.data.stain.target import StainTarget, fit_target, normalise_stain
from cvm_monai.errors import CvmError
from cvm_monai.knobs import StainNormalisation

logger = logging.getLogger(__name__)

Item = dict[Hashable, Any]


class RandStainJitterd(Randomizable, Transform):
    """Change how strongly each stain of an RGB image in [0, 1] is taken up, which shifts hue and shade.

    The optical density -ln I is split into haematoxylin, eosin and the rest by `STAINS`; each concentration c becomes
    (1 + a) c + b, a and b uniform in [-amount, amount], drawn for each stain (Tellez et al., IEEE TMI 2018). A
    concentration is about 1 where the stain is strong. The image must not be normalised by mean and deviation yet.

    Args:
        amount: raising it makes the network less dependent on stain and scanner, and colour tell it less; 0 (the
            image as it is) to 0.3.

    Raises:
        CvmError: an amount out of its range.
    """

    def __init__(self, *, amount: float = 0.1) -> None:
        if not 0 <= amount < 1:
            raise CvmError(f"amount must lie in [0, 1), got {amount!r}")
        self.amount = amount

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        factor, shift = (self.R.uniform(-self.amount, self.amount, 3) for _ in range(2))
        return {**item, "image": change_concentrations(item["image"], factor, shift)}


def change_concentrations(image: torch.Tensor, factor: np.ndarray, shift: np.ndarray) -> torch.Tensor:
    """(3, H, W) float32 in [0, 1] with each stain's concentration c as (1 + factor) c + shift; all 0: unchanged.

    Args:
        image: (3, H, W) float in [0, 1]; below 1/255 its density counts as that of 1/255.
        factor: (3,) of haematoxylin, eosin and the rest.
        shift: (3,) likewise.
    """
    scaling = torch.from_numpy((np.linalg.inv(STAINS) @ np.diag(factor) @ STAINS).T).float()
    offset = torch.from_numpy(shift @ STAINS).float()[:, None]
    pixels = image.float().flatten(1)  # (3, n)
    added = torch.addmm(offset, scaling, pixels.clamp(1 / 255, 1).log_(), beta=-1)  # minus the density that is added
    return (pixels * added.exp_()).clamp_(0, 1).reshape(image.shape)


class ScaleStaind(Transform):
    """Multiply the concentrations of `image`, uint8 (3, H, W), by fixed factors, as another laboratory might stain.

    Args:
        haematoxylin: factor; 1 leaves it; 0.5 to 2.
        eosin: likewise.
    """

    def __init__(self, *, haematoxylin: float = 1.0, eosin: float = 1.0) -> None:
        self.change = concentration_change((haematoxylin, eosin, 1.0))

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        return {**item, "image": _channels_first(restain(_channels_last(item["image"]), self.change))}


class NormaliseStaind(Transform):
    """Bring `image`, uint8 (3, H, W) and whole, to the stains of the training set; deterministic.

    An image that shows too little tissue is left as it is, with a warning; `left_as_is` counts them (in this process).

    Args:
        target: of `fit_target`; None changes no image.
    """

    def __init__(self, *, target: StainTarget | None) -> None:
        self.target = target
        self.left_as_is = 0

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        if self.target is None:
            return dict(item)
        found = normalise_stain(_channels_last(item["image"]), self.target)
        if found is not None:
            return {**item, "image": _channels_first(found)}
        self.left_as_is += 1
        logger.warning(
            "case %s shows too little stained tissue to be normalised: left as it is", item.get("case_id", "unknown")
        )
        return dict(item)


def _channels_last(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.asarray(image), 0, -1))


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))


def fit_on_records(
    records: Sequence[Mapping[Hashable, Any]],
    *,
    load: Callable[[Mapping[Hashable, Any]], Item],
    method: StainNormalisation,
) -> StainTarget | None:
    """`fit_target` on the images of a data set's part, one in memory at a time; the method `none` reads none.

    Args:
        records: of the training cases.
        load: a record to an item whose `image` is uint8 (3, H, W), at the resolution that is trained at.
        method: how.

    Raises:
        CvmError: as `fit_target` and `load`.
    """
    target = fit_target((_channels_last(load(record)["image"]) for record in records), method=method)
    if target is not None:
        logger.info(
            "stain normalisation by %s, fitted on %d training images; %d show too little tissue and were left out",
            method,
            target.images,
            target.left_out,
        )
    return target
