"""Base classes of the methods that learn from points and from a soft segmentation u of each training image."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor, nn

from cvm_monai.errors import CvmError
from cvm_monai.knobs import MeansRule, SolverName
from cvm_monai.losses import (
    categorical_weighted_kl,
    partial_cross_entropy,
    thresholded_cross_entropy,
    uncertainty_weighted_kl,
)
from cvm_monai.losses.checks import check_number
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, PseudoLabel, Supervision
from cvm_monai.supervision.segmenters import solve_and_average
from cvm_monai.variational.settings import Settings

PseudoLabelLoss = Literal["weighted_kl", "cross_entropy"]
"""Use of u in the loss: weighted by its certainty, or thresholded at 0.5 to a mask (Figure 3a)."""


class PseudoLabelled(Supervision):
    """L = L_pce + weight * L_wkl (Eq. 2), with u renewed at each new low of the validation partial cross-entropy.

    Subclasses define how u is computed: `evidence` and `pseudo_labels`.

    Args:
        weight: of the term of u; raising it trusts u more against the points; 0.1 to 10, 1 in the paper.
        pseudo_label_loss: `weighted_kl`, or instead `cross_entropy` to the mask u > 0.5 (Section 5.4, Figure 3a).

    Raises:
        CvmError: a weight that is negative or not finite, or an unknown loss.
    """

    renews: ClassVar[bool] = True

    def __init__(self, *, weight: float, pseudo_label_loss: PseudoLabelLoss = "weighted_kl") -> None:
        check_number("weight", weight)
        if pseudo_label_loss not in get_args(PseudoLabelLoss):
            raise CvmError(f"pseudo_label_loss must be one of {get_args(PseudoLabelLoss)}, got {pseudo_label_loss!r}")
        self.weight = weight
        self.pseudo_label_loss = pseudo_label_loss

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `partial_ce`, and `weighted_kl` or `pseudo_ce`."""
        logits = network(batch["image"])
        u = batch["pseudo_label"]
        terms = {"partial_ce": partial_cross_entropy(logits, batch["label"])}
        if self.pseudo_label_loss == "cross_entropy":
            terms["pseudo_ce"] = self.weight * thresholded_cross_entropy(logits, u, valid=u >= 0)
        elif u.shape[1] == 1:
            terms["weighted_kl"] = self.weight * uncertainty_weighted_kl(logits, u.clamp(0, 1), valid=u >= 0)
        else:
            terms["weighted_kl"] = self.weight * categorical_weighted_kl(logits, u, known=u >= 0)
        return terms

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels, and those with a pseudo-label that the loss uses."""
        known = (batch["pseudo_label"] >= 0).sum(dim=1)
        channels = batch["pseudo_label"].shape[1]
        if self.pseudo_label_loss == "cross_entropy":
            second = {"pseudo_ce": (known == channels).sum()}
        else:
            second = {"weighted_kl": (known >= min(2, channels)).sum()}
        return {"partial_ce": annotated_pixels(batch["label"]), **second}


class VariationalPseudoLabelled(PseudoLabelled):
    """Computes u by the solver of Eq. 6 on each map of the evidence, averaged by Eq. 7.

    Args:
        lam: weight of the data term; raising it follows the evidence, lowering it smooths; see `solve`.
        solver, iterations, tolerance, means: see `solve`.
        weight, pseudo_label_loss: see `PseudoLabelled`.

    Raises:
        CvmError: a constant out of its range, naming it.
    """

    def __init__(
        self,
        *,
        lam: float = Settings.lam,
        solver: SolverName = Settings.method,
        iterations: int = Settings.iterations,
        tolerance: float = Settings.tolerance,
        means: MeansRule = Settings.means,
        weight: float = 1.0,
        pseudo_label_loss: PseudoLabelLoss = "weighted_kl",
    ) -> None:
        super().__init__(weight=weight, pseudo_label_loss=pseudo_label_loss)
        settings = Settings(method=solver, lam=lam, iterations=iterations, tolerance=tolerance, means=means)
        self._solve: dict[str, Any] = asdict(settings)

    def pseudo_labels(
        self, evidence: Sequence[Tensor], *, spacings: Sequence[int] | None = None, workers: int = 1
    ) -> list[PseudoLabel]:
        """Solve for each map, then average and normalise the solutions of each image (Eq. 7)."""
        return solve_and_average(evidence, spacings=spacings, workers=workers, **self._solve)
