"""From the features of an image and its points to the maps that are segmented."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from cvm_monai.losses.checks import check_number
from cvm_monai.variational import contrast_maps

Combination = Literal["mean", "max"]
"""`mean`: every point's map is segmented and the results are averaged (Eq. 7). `max`: the largest contrast of any point
is segmented: for targets of several kinds of tissue (epithelium, lumen and mucus of a gland), of which each point
speaks for its own only and the mean calls none of them target. Not in the paper."""

Contrast = Literal["one_sided", "two_sided"]
"""`one_sided`: in-target against out-of-target (the paper): what is like neither is background. `two_sided`: less the
contrast of out-of-target against in-target, so that what is like neither is in the middle. Not in the paper."""


@dataclass(frozen=True)
class ContrastEvidence:
    """What of the points' contrast maps is segmented.

    Attributes:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        combination: of the in-target points' maps; see `Combination`.
        contrast: see `Contrast`.

    Raises:
        ValueError: one of them out of its range, naming it.
    """

    eta: float = 0.6
    combination: Combination = "mean"
    contrast: Contrast = "one_sided"

    def __post_init__(self) -> None:
        check_number("eta", self.eta, high=1)
        for name, choices in (("combination", get_args(Combination)), ("contrast", get_args(Contrast))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def maps(self, features: Tensor, in_points: np.ndarray, out_points: np.ndarray) -> Tensor:
        """(P, h, w) maps in [0, 1], or, for `max`, (1, h, w), from features (C, h, w) and points (P, 2), (Q, 2).

        `one_sided`: z_p, the mean contrast map of each in-target point (Eqs. 5 and 6), or the largest of any.
        `two_sided`: (1 + z_p - z_Q) / 2, z_Q the mean, or the largest, of the out-of-target points' own contrast maps,
        in which the points have changed sides.
        """
        inside = self._combined(contrast_maps(features, in_points, out_points, eta=self.eta).float())
        if self.contrast == "one_sided":
            return inside
        outside = self._combined(contrast_maps(features, out_points, in_points, eta=self.eta).float())
        return (1 + inside - outside.mean(dim=0)) / 2

    def _combined(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=0, keepdim=True) if self.combination == "max" else maps
