"""Compute the evidence maps that are segmented, from the features of an image and its points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from array_api_compat import array_namespace

from cvm_monai.errors import CvmError
from cvm_monai.knobs import DEFAULTS, Centre, Combination, Contrast
from cvm_monai.variational.arrays import check_features, check_numbers
from cvm_monai.variational.chan_vese import Array
from cvm_monai.variational.contrast import centred, check_points, mean_contrast, unit_vectors
from cvm_monai.variational.point_classifiers import linear_discriminant, vote
from cvm_monai.variational.representatives import MOST, representatives

MOST_SOLVED = 16
"""Like `MOST`, for the in-target points of the combination `mean`, each of whose maps is solved by itself: 32 made a
renewal four times as long as that of five points, 16 2.3 times, with u's Dice within 0.001."""


@dataclass(frozen=True)
class ContrastEvidence:
    """How the points' contrast maps become evidence. The defaults are the bundle's; the paper's are in `paper.yaml`.

    Attributes:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        combination: how the in-target points' maps are combined; see `Combination`.
        contrast: see `Contrast`; without effect on `vote`, which is two-sided by itself.
        centre: which mean is subtracted from the features first; see `centred`.
        discriminant: weight of `linear_discriminant` in the evidence, [0, 1]; raising it relies more on the differences
            between the two classes of points than on similarity to a point. 0: contrast maps alone (the paper).

    Raises:
        CvmError: one of them out of its range, naming it.
    """

    eta: float = DEFAULTS["eta"]
    combination: Combination = DEFAULTS["combination"]
    contrast: Contrast = DEFAULTS["contrast"]
    centre: Centre = DEFAULTS["centre"]
    discriminant: float = DEFAULTS["discriminant"]

    def __post_init__(self) -> None:
        for name, value in {"eta": self.eta, "discriminant": self.discriminant}.items():
            check_numbers(**{name: value})
            if not 0 <= value <= 1:
                raise CvmError(f"{name} must lie in [0, 1], got {value!r}")
        choices = {"combination": Combination, "contrast": Contrast, "centre": Centre}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise CvmError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")

    def maps(
        self,
        features: Array,
        in_points: np.ndarray,
        out_points: np.ndarray,
        *,
        mean: Array | None = None,
        parts: Sequence[int] | None = None,
    ) -> Array:
        """Compute the maps in [0, 1]: (P, h, w) for `mean`, (1, h, w) for the other combinations; float32 or float64.

        `one_sided`: z_p, the mean contrast map of each in-target point (Eqs. 5 and 6), combined. `two_sided`:
        (1 + z_p - z_Q) / 2, z_Q the mean, or the maximum, of the out-of-target points' own contrast maps, computed with
        the roles of the two classes exchanged. The discriminant's map is mixed into each. More than `MOST` points of a
        class, for `mean` more than `MOST_SOLVED` in-target points, are represented by so many vectors
        (`representatives`); the discriminant is fitted to all of them.

        Args:
            features: (C, h, w), NumPy or torch.
            in_points, out_points: (P, 2) and (Q, 2) integer (row, column).
            mean, parts: see `centred`.

        Raises:
            CvmError: as `centred` and `contrast_maps`.
        """
        check_features(features)
        xp = array_namespace(features)
        if features.dtype not in (xp.float32, xp.float64):
            features = xp.astype(features, xp.float32)
        found = centred(features, self.centre, mean=mean, parts=parts)
        maps = self._contrast(found, in_points, out_points)
        if self.discriminant:
            other = linear_discriminant(found, in_points, out_points)
            maps = (1 - self.discriminant) * maps + self.discriminant * other
        return maps

    def _contrast(self, features: Array, in_points: np.ndarray, out_points: np.ndarray) -> Array:
        most = (MOST_SOLVED if self.combination == "mean" else MOST, MOST)
        near, far = _correlations(features, in_points, out_points, most=most)
        if self.combination == "vote":
            return vote(near, far)[None]
        inside = self._combined(mean_contrast(near, far, eta=self.eta))
        if self.contrast == "one_sided":
            return inside
        outside = self._combined(mean_contrast(far, near, eta=self.eta))
        return (1 + inside - outside.mean(0)) / 2

    def _combined(self, maps: Array) -> Array:
        xp = array_namespace(maps)
        if self.combination == "max":
            return xp.max(maps, axis=0, keepdims=True)
        return xp.mean(maps, axis=0, keepdims=True) if self.combination == "pooled" else maps


def _correlations(
    features: Array, in_points: Array, out_points: Array, *, most: tuple[int, int]
) -> tuple[Array, Array]:
    """Compute the correlation maps (Eq. 4) of both classes' points or, beyond `most`, their representatives."""
    shape = tuple(features.shape)
    checked = [check_points(in_points, shape, name="in_points"), check_points(out_points, shape, name="out_points")]
    unit = unit_vectors(features)
    found = [unit[:, points[:, 0] * shape[2] + points[:, 1]] for points in checked]
    vectors = [representatives(own, most=limit) for own, limit in zip(found, most, strict=True)]
    near, far = ((own.T @ unit).reshape(-1, *shape[1:]) for own in vectors)
    return near, far
