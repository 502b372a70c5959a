"""The proposed method: the contrast-based variational model supervises beside the points."""

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from cvm_monai.supervision.contrast_evidence import Combination, Contrast, ContrastEvidence
from cvm_monai.supervision.pseudo_labelled import VariationalPseudoLabelled


class ContrastVariational(VariationalPseudoLabelled):
    """L = L_pce + weight * L_wkl (Eq. 2), with u of Eq. 7 from the contrast maps as the current pseudo-label.

    Args:
        eta, combination, contrast: see `ContrastEvidence`.
        settings: lam, solver, iterations, tolerance, means, weight, pseudo_label_loss; see `VariationalPseudoLabelled`.

    Raises:
        ValueError: a constant out of its range, naming it.
    """

    name: ClassVar[str] = "cvm"

    def __init__(
        self,
        *,
        eta: float = 0.6,
        combination: Combination = "mean",
        contrast: Contrast = "one_sided",
        **settings: Any,
    ) -> None:
        self.contrasts = ContrastEvidence(eta, combination, contrast)
        super().__init__(**settings)

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """The mean contrast map of each in-target point (Eqs. 4 to 6) from Feature Map 2; see `ContrastEvidence`."""
        return self.contrasts.maps(features, in_points, out_points)
