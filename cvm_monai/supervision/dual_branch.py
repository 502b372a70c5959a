"""Two decoders trained on hard pseudo-labels from the mixture of their predictions (Luo et al., MICCAI 2022)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cvm_monai.errors import CvmError
from cvm_monai.losses import mixed_pseudo_label, partial_cross_entropy, pseudo_label_dice
from cvm_monai.losses.checks import check_number
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, Supervision

NEEDS = ("encode", "decode", "new_decoder", "output_shape")


class DualBranch(Supervision):
    """L = (L_pce(y1) + L_pce(y2)) / 2 + weight (D(y1, t) + D(y2, t)) / 2, D the Dice loss of `pseudo_label_dice`.

    y1 is the network's prediction; y2 comes from a second decoder on the same encoder's maps, of which dropout removes
    whole channels. t = argmax(b y1 + (1 - b) y2), with one random b per step, is a constant. The second decoder starts
    from its own random weights, is trained by the same optimiser, and is not part of the network that is validated and
    saved.

    Args:
        weight: of the pseudo-label term; raising it trusts t more against the points; 0.1 to 1.
        dropout: fraction of channels removed for the second decoder; raising it makes the two differ more; 0 to 0.9.

    Raises:
        CvmError: a constant out of its range, or a network that cannot be used (in `prepare`).
    """

    name: ClassVar[str] = "dual_branch"
    title: ClassVar[str] = "Dual branch"

    def __init__(self, *, weight: float = 0.5, dropout: float = 0.5) -> None:
        check_number("weight", weight)
        check_number("dropout", dropout, high=0.99)
        self.weight, self.dropout = weight, dropout
        self._prepared: nn.Module | None = None

    @property
    def decoder(self) -> Any:
        """The second decoder, created by `prepare`."""
        return self._known(self._prepared)

    def prepare(self, network: Any, optimizer: Optimizer) -> None:
        """Create the second decoder and add its weights to the optimiser, as a group with the optimiser's defaults."""
        if isinstance(network, DistributedDataParallel):
            raise CvmError("supervision dual_branch trains in one process only: leave out multi_gpu_train.yaml")
        if not all(hasattr(network, name) for name in NEEDS):
            kind = type(network).__name__
            raise CvmError(f"supervision dual_branch needs a network with {', '.join(NEEDS)}, not {kind}")
        self._prepared = network.new_decoder()
        optimizer.add_param_group({"params": list(self.decoder.parameters())})

    def loss(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `partial_ce` and `pseudo_label_dice`, each the mean over both decoders."""
        maps = network.encode(batch["image"])
        shape = network.output_shape(*batch["image"].shape[-2:])
        first, _ = network.decode(maps, *shape)
        second, _ = self.decoder.decode([functional.dropout2d(part, self.dropout) for part in maps], *shape)
        target = mixed_pseudo_label(first, second, share=float(torch.rand(())))
        points = [partial_cross_entropy(logits, batch["label"]) for logits in (first, second)]
        dice = [pseudo_label_dice(logits, target) for logits in (first, second)]
        return {
            "partial_ce": torch.stack(points).mean(),
            "pseudo_label_dice": self.weight * torch.stack(dice).mean(),
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels; `pseudo_label_dice` is a ratio over the batch, averaged over its parts."""
        return {"partial_ce": annotated_pixels(batch["label"])}

    def state_dict(self) -> dict[str, Any]:
        """Return the second decoder's state."""
        return {"decoder": self.decoder.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; call after `prepare`."""
        self.decoder.load_state_dict(state["decoder"])
