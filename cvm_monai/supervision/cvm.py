"""The proposed method: the contrast-based variational model supervises beside the points."""

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from cvm_monai.losses.checks import check_number
from cvm_monai.supervision.combination import Combination, check_combination, combined
from cvm_monai.supervision.pseudo_labelled import VariationalPseudoLabelled
from cvm_monai.variational import contrast_maps


class ContrastVariational(VariationalPseudoLabelled):
    """L = L_pce + weight * L_wkl (Eq. 2), with u of Eq. 7 from the contrast maps as the current pseudo-label.

    Args:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        combination: of the in-target points' maps; see `Combination`.
        settings: lam, solver, iterations, tolerance, means, weight, pseudo_label_loss; see `VariationalPseudoLabelled`.

    Raises:
        ValueError: a constant out of its range, naming it.
    """

    name: ClassVar[str] = "cvm"

    def __init__(self, *, eta: float = 0.6, combination: Combination = "mean", **settings: Any) -> None:
        check_number("eta", eta, high=1)
        check_combination(combination)
        super().__init__(**settings)
        self.eta, self.combination = eta, combination

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """The mean contrast map of each in-target point (Eqs. 4 to 6) from Feature Map 2, or the largest of them."""
        maps: Tensor = contrast_maps(features, in_points, out_points, eta=self.eta).float()
        return combined(maps, self.combination)
