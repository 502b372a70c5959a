"""The contrast map itself as pseudo-label (Section 5.3): the proposed method without its solver."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from cvm_monai.knobs import DEFAULTS, Centre, Combination, Contrast
from cvm_monai.supervision.pseudo_label import PseudoLabel
from cvm_monai.supervision.pseudo_labelled import PseudoLabelled, PseudoLabelLoss
from cvm_monai.variational import ContrastEvidence, Status, normalise


class ContrastMap(PseudoLabelled):
    """L = L_pce + weight * L_wkl, with u = N(mean of z_p over the in-target points); loss and renewal as `cvm`.

    An image whose mean is constant gets no pseudo-label, so that "all background" is never learnt by accident.

    Args:
        eta, combination, contrast, centre, discriminant: see `ContrastEvidence`.
        weight, pseudo_label_loss: see `PseudoLabelled`.

    Raises:
        CvmError: a constant out of its range, naming it.
    """

    name: ClassVar[str] = "contrast_map"
    title: ClassVar[str] = "Contrast map"

    def __init__(
        self,
        *,
        eta: float = DEFAULTS["eta"],
        combination: Combination = DEFAULTS["combination"],
        contrast: Contrast = DEFAULTS["contrast"],
        centre: Centre = DEFAULTS["centre"],
        discriminant: float = DEFAULTS["discriminant"],
        weight: float = 1.0,
        pseudo_label_loss: PseudoLabelLoss = "weighted_kl",
    ) -> None:
        self.contrasts = ContrastEvidence(eta, combination, contrast, centre, discriminant)
        self.needs_mean = centre in ("dataset", "both")
        super().__init__(weight=weight, pseudo_label_loss=pseudo_label_loss)

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """Compute the mean (or maximum) of the contrast maps of all in-target points, (1, h, w)."""
        maps = self.contrasts.maps(features, in_points, out_points, mean=self.mean_features)
        return maps.mean(0, keepdim=True)

    def pseudo_labels(
        self, evidence: Sequence[Tensor], *, spacings: Sequence[int] | None = None, workers: int = 1
    ) -> list[PseudoLabel]:
        """Average each image's maps and stretch the mean to [0, 1]; no solver runs."""
        return [_stretched(maps.mean(0)) for maps in evidence]


def _stretched(mean: Tensor) -> PseudoLabel:
    """N(mean) (h, w) as a pseudo-label, or the reason why there is none."""
    if not mean.isfinite().all():
        return PseudoLabel(None, reason=_short(Status.NON_FINITE))
    if mean.min() == mean.max():
        return PseudoLabel(None, reason=_short(Status.CONSTANT_MAP))
    return PseudoLabel(normalise(mean).cpu().numpy())


def _short(status: Status) -> str:
    return str(status.value).split(":")[0]
