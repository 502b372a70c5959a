"""Strong baseline on points alone: partial cross-entropy and partial Dice, no pseudo-label (ours)."""

from typing import ClassVar

from torch import Tensor, nn

from cvm_monai.losses import partial_cross_entropy, partial_dice
from cvm_monai.losses.checks import check_number
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, Supervision


class StrongPartialCrossEntropy(Supervision):
    """L = L_pce (Eq. 3) + weight * L_pd, L_pd the soft Dice loss on the annotated pixels (`partial_dice`).

    Args:
        weight: of L_pd; raising it balances the classes where their annotated pixels differ in number; 0.1 to 10.

    Raises:
        CvmError: a weight that is negative or not finite.
    """

    name: ClassVar[str] = "strong_partial_ce"
    title: ClassVar[str] = "Strong partial CE"
    beyond_paper: ClassVar[str] = "partial Dice beside the partial cross-entropy"

    def __init__(self, *, weight: float = 1.0) -> None:
        check_number("weight", weight)
        self.weight = weight

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `partial_ce` and `partial_dice`."""
        logits = network(batch["image"])
        return {
            "partial_ce": partial_cross_entropy(logits, batch["label"]),
            "partial_dice": self.weight * partial_dice(logits, batch["label"]),
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels; `partial_dice` is a ratio over the batch, averaged over its parts."""
        return {"partial_ce": annotated_pixels(batch["label"])}
