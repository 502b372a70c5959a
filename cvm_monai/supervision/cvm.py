"""The proposed method: the contrast-based variational model supervises beside the points."""

from collections.abc import Callable
from functools import partial
from math import exp
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from cvm_monai.losses import partial_cross_entropy, uncertainty_weighted_kl
from cvm_monai.supervision.base import Batch, PseudoLabel, Supervision
from cvm_monai.supervision.segmenters import solve_and_average
from cvm_monai.variational import MeansRule, SolverName, contrast_maps


class ContrastVariational(Supervision):
    """L = L_pce + weight * ramp * L_wkl (Eq. 2), with u of Eq. 7 as the current pseudo-label.

    Args:
        eta: strength of the subtraction in the contrast maps, [0, 1]; see `contrast_maps`.
        lam: weight of the data term; raising it follows the contrast map, lowering it smooths; see `solve`.
        solver, iterations, tolerance, means: see `solve`.
        weight: of L_wkl; raising it trusts u more against the points; 0.1 to 10, 1 in the paper.
        rampup: share of the training over which that weight grows from almost 0, as exp(-5 (1 - t)^2); 0, the paper's,
            is for pretrained weights. Features of a network that starts at random give a poor first u; at full weight
            the network follows it, the validation falls no more, and u is never renewed. 0 to 0.8.
    """

    name: ClassVar[str] = "cvm"
    renews: ClassVar[bool] = True

    def __init__(
        self,
        *,
        eta: float = 0.6,
        lam: float = 2.0,
        solver: SolverName = "aos",
        iterations: int = 5,
        tolerance: float = 1e-3,
        means: MeansRule = "alternating",
        weight: float = 1.0,
        rampup: float = 0.5,
    ) -> None:
        if not 0 <= rampup < 1:
            raise ValueError(f"rampup must lie in [0, 1), got {rampup!r}")
        self.eta, self.weight, self.rampup = eta, weight, rampup
        self._share = 1.0
        self._solve: dict[str, Any] = {
            "method": solver,
            "lam": lam,
            "iterations": iterations,
            "tolerance": tolerance,
            "means": means,
        }

    def begin_epoch(self, *, epoch: int, max_epochs: int) -> None:
        """Set the share of `weight` that this epoch uses."""
        length = self.rampup * max_epochs
        done = 1.0 if length <= 0 else min(1.0, (epoch - 1) / length)
        self._share = exp(-5.0 * (1.0 - done) ** 2)

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Two terms, `partial_ce` and `weighted_kl`."""
        logits = network(batch["image"])
        u = batch["pseudo_label"]
        divergence = uncertainty_weighted_kl(logits, u.clamp(0, 1), valid=u >= 0)
        return {
            "partial_ce": partial_cross_entropy(logits, batch["label"]),
            "weighted_kl": self.weight * self._share * divergence,
        }

    def evidence(self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray) -> np.ndarray:
        """The mean contrast map of each in-target point (Eqs. 4 to 6) from Feature Map 2."""
        maps: np.ndarray = contrast_maps(features, in_points, out_points, eta=self.eta).float().cpu().numpy()
        return maps

    def segmenter(self) -> Callable[[np.ndarray], PseudoLabel]:
        """One solve for each map, then their normalised mean (Eq. 7)."""
        return partial(solve_and_average, **self._solve)
