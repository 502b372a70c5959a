"""Full supervision by dense masks: the upper bound of Table 1."""

from typing import ClassVar

from torch import Tensor, nn

from cvm_monai.losses import partial_cross_entropy
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, Supervision


class FullSupervision(Supervision):
    """L = mean cross-entropy over all pixels of the mask; a case without a mask contributes nothing."""

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full supervision"
    needs_masks: ClassVar[bool] = True

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute one term, `cross_entropy`."""
        return {"cross_entropy": partial_cross_entropy(network(batch["image"]), batch["mask"])}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the labelled pixels of the masks."""
        return {"cross_entropy": annotated_pixels(batch["mask"])}
