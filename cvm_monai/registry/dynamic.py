"""A network as `torch.export` can keep it of any size."""

from collections.abc import Mapping

import torch
from torch import nn

MULTIPLES: Mapping[str, int] = {"unet": 16, "resnet34_unet": 32, "timm_unet": 32}
"""To which multiple in pixels the networks pad that give logits of the image's own size."""


class PaddedByIndex(nn.Module):
    """(B, C, H, W) to the network's own logits, up to rounding, padded and cropped by index outside of it.

    `torch.export` takes a padding or a slice that changes nothing for another program than one that does, and keeps the
    one that its example met. A selection by index is one program for both; inside, the network has nothing to pad.

    Args:
        network: pads to `multiple` as `pad_to_multiple` does, and gives logits of its input's size.
        multiple: in pixels.
    """

    def __init__(self, network: nn.Module, *, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(self._padded(self._padded(x, 2), 3))
        for axis in (2, 3):
            logits = logits.index_select(axis, torch.arange(x.shape[axis], device=x.device))
        return logits

    def _padded(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The last row or column repeated: the arithmetic of `pad_to_multiple`."""
        side = x.shape[axis]
        steps = (side + self.multiple - 1) // self.multiple
        steps = steps + 2 // (steps + 1)
        return x.index_select(axis, torch.arange(steps * self.multiple, device=x.device).clamp(max=side - 1))
