"""What the methods share that learn from a soft segmentation u of each training image beside the points."""

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
"""What u does in the loss: weighs itself by its uncertainty, or is cut at 0.5 into a mask (Figure 3a)."""


class PseudoLabelled(Supervision):
    """L = L_pce + weight * L_wkl (Eq. 2), with u renewed at each new low of the validation partial cross-entropy.

    A method adds where u comes from: `evidence` and `pseudo_labels`.

    Args:
        weight: of the term of u; raising it trusts u more against the points; 0.1 to 10, 1 in the paper.
        pseudo_label_loss: `weighted_kl`, or `cross_entropy` to the mask u > 0.5 in its place (Section 5.4, Figure 3a).

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
        """Two terms, `partial_ce`, and `weighted_kl` or `pseudo_ce`."""
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
        """The annotated pixels, and those whose pseudo-label the loss looks at."""
        known = (batch["pseudo_label"] >= 0).sum(dim=1)
        channels = batch["pseudo_label"].shape[1]
        if self.pseudo_label_loss == "cross_entropy":
            second = {"pseudo_ce": (known == channels).sum()}
        else:
            second = {"weighted_kl": (known >= min(2, channels)).sum()}
        return {"partial_ce": annotated_pixels(batch["label"]), **second}


class VariationalPseudoLabelled(PseudoLabelled):
    """u by the solver of Eq. 6 on each map of the evidence, averaged by Eq. 7.

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

    def pseudo_labels(self, evidence: Sequence[Tensor], *, workers: int = 1) -> list[PseudoLabel]:
        """One solve for each map, then their normalised mean for each image (Eq. 7)."""
        return solve_and_average(evidence, workers=workers, **self._solve)
