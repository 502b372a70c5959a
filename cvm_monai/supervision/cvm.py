"""The proposed method: the contrast-based variational model supervises beside the points."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from cvm_monai.losses import partial_cross_entropy, uncertainty_weighted_kl
from cvm_monai.supervision.base import Batch, PseudoLabel, Supervision
from cvm_monai.supervision.segmenters import solve_and_average
from cvm_monai.variational import MeansRule, SolverName, contrast_maps


class ContrastVariational(Supervision):
    """L = L_pce + weight * L_wkl (Eq. 2), with u of Eq. 7 as the current pseudo-label.

    Args:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        lam: weight of the data term; raising it follows the contrast map, lowering it smooths; see `solve`.
        solver, iterations, tolerance, means: see `solve`.
        weight: of L_wkl; raising it trusts u more against the points; 0.1 to 10, 1 in the paper.
    """

    name: ClassVar[str] = "cvm"
    renews: ClassVar[bool] = True

    def __init__(
        self,
        *,
        eta: float = 0.6,
        lam: float = 0.5,
        solver: SolverName = "aos",
        iterations: int = 50,
        tolerance: float = 1e-3,
        means: MeansRule = "alternating",
        weight: float = 1.0,
    ) -> None:
        self.eta, self.weight = eta, weight
        self._solve: dict[str, Any] = {
            "method": solver,
            "lam": lam,
            "iterations": iterations,
            "tolerance": tolerance,
            "means": means,
        }

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Two terms, `partial_ce` and `weighted_kl`."""
        logits = network(batch["image"])
        u = batch["pseudo_label"]
        divergence = uncertainty_weighted_kl(logits, u.clamp(0, 1), valid=u >= 0)
        return {
            "partial_ce": partial_cross_entropy(logits, batch["label"]),
            "weighted_kl": self.weight * divergence,
        }

    def evidence(self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray) -> Tensor:
        """The mean contrast map of each in-target point (Eqs. 4 to 6) from Feature Map 2."""
        maps: Tensor = contrast_maps(features, in_points, out_points, eta=self.eta).float()
        return maps

    def pseudo_labels(self, evidence: Sequence[Tensor], *, workers: int = 1) -> list[PseudoLabel]:
        """One solve for each map, then their normalised mean for each image (Eq. 7)."""
        return solve_and_average(evidence, workers=workers, **self._solve)
