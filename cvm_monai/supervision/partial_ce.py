"""Partial cross-entropy on the annotated points only: the baseline of Table 1."""

from typing import ClassVar

from torch import Tensor, nn

from cvm_monai.losses import partial_cross_entropy
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, Supervision


class PartialCrossEntropy(Supervision):
    """L = L_pce (Eq. 3)."""

    name: ClassVar[str] = "partial_ce"
    title: ClassVar[str] = "Partial CE"

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute one term, `partial_ce`."""
        return {"partial_ce": partial_cross_entropy(network(batch["image"]), batch["label"])}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels."""
        return {"partial_ce": annotated_pixels(batch["label"])}
