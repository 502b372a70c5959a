"""From the features of an image and its points to the maps that are segmented."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from torch import Tensor

from cvm_monai.knobs import Centre, Combination, Contrast
from cvm_monai.losses.checks import check_number
from cvm_monai.variational import centred, contrast_maps, linear_discriminant, nearest_point_vote


@dataclass(frozen=True)
class ContrastEvidence:
    """What of the points' contrast maps is segmented.

    Attributes:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        combination: of the in-target points' maps; see `Combination`.
        contrast: see `Contrast`; without effect on `vote`, which is two-sided by itself.
        centre: what is taken off the features first; see `centred`.
        discriminant: share of `linear_discriminant` in the evidence, [0, 1]; raising it trusts what tells the points
            apart more than what resembles them. 0: the contrast maps alone (the paper).

    Raises:
        ValueError: one of them out of its range, naming it.
    """

    eta: float = 0.6
    combination: Combination = "mean"
    contrast: Contrast = "one_sided"
    centre: Centre = "none"
    discriminant: float = 0.0

    def __post_init__(self) -> None:
        check_number("eta", self.eta, high=1)
        check_number("discriminant", self.discriminant, high=1)
        choices = {"combination": Combination, "contrast": Contrast, "centre": Centre}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")

    def maps(
        self,
        features: Tensor,
        in_points: np.ndarray,
        out_points: np.ndarray,
        *,
        mean: Tensor | None = None,
        parts: Sequence[int] | None = None,
    ) -> Tensor:
        """(P, h, w) maps in [0, 1], or (1, h, w) for all combinations but `mean`.

        `one_sided`: z_p, the mean contrast map of each in-target point (Eqs. 5 and 6), combined. `two_sided`:
        (1 + z_p - z_Q) / 2, z_Q the mean, or the largest, of the out-of-target points' own contrast maps, in which the
        points have changed sides. The discriminant's map is mixed into each.

        Args:
            features: (C, h, w).
            in_points, out_points: (P, 2) and (Q, 2) integer (row, column).
            mean, parts: see `centred`.
        """
        found = centred(features, self.centre, mean=mean, parts=parts)
        maps = self._contrast(found, in_points, out_points)
        if self.discriminant:
            other = linear_discriminant(found, in_points, out_points)
            maps = (1 - self.discriminant) * maps + self.discriminant * other
        return maps.float()

    def _contrast(self, features: Tensor, in_points: np.ndarray, out_points: np.ndarray) -> Tensor:
        if self.combination == "vote":
            return nearest_point_vote(features, in_points, out_points)[None]
        inside = self._combined(contrast_maps(features, in_points, out_points, eta=self.eta))
        if self.contrast == "one_sided":
            return inside
        outside = self._combined(contrast_maps(features, out_points, in_points, eta=self.eta))
        return (1 + inside - outside.mean(dim=0)) / 2

    def _combined(self, maps: Tensor) -> Tensor:
        if self.combination == "max":
            return maps.amax(dim=0, keepdim=True)
        return maps.mean(dim=0, keepdim=True) if self.combination == "pooled" else maps
