"""A network of the library timm as the encoder of a U-Net: maps of strides 2, 4, 8, 16 and 32."""

from os import PathLike

import torch
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.networks.timm_extractor import TimmNetwork

STRIDES = (2, 4, 8, 16, 32)


class TimmEncoder(TimmNetwork):
    """Map (B, 3, H, W), normalised, sides multiples of 32, to five maps of strides 2 to 32; all of it learns.

    A stride finer than any of the network's is the image, average-pooled; any other missing stride is the next finer
    map, max-pooled. So a ConvNeXt (strides 4 to 32) and a vision transformer (only 16) work as well as a ResNet.

    Args:
        path, weights, pretrained: see `TimmNetwork`; not `@stages`: all stages are used anyhow.

    Attributes:
        channels: of the five maps.

    Raises:
        CvmError: as `TimmNetwork`, `@stages`, or a network without any of these strides (such as patches of 14 px).
    """

    def __init__(self, path: str, weights: str | PathLike[str] | None = None, *, pretrained: bool = True) -> None:
        super().__init__(path, weights, pretrained=pretrained)
        if self.asked.stages:
            raise CvmError(f"an encoder gives all of its stages: drop @stages from {path}")
        found = {stride: number for stride, number in self.numbers_by_stride().items() if stride in STRIDES}
        if not found:
            raise CvmError(f"timm's {self.asked.name} has no map of stride 2, 4, 8, 16 or 32: take another encoder")
        self._strides, self._numbers = tuple(found), list(found.values())
        if hasattr(self.model, "prune_intermediate_layers"):  # layers that no map needs would never get a gradient
            self.model.prune_intermediate_layers(self._numbers, prune_norm=False, prune_head=True)
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            self.channels = tuple(maps.shape[1] for maps in self(torch.zeros(1, 3, 64, 64)))
        self.model.train(training)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        found = dict(zip(self._strides, self.maps(x, self._numbers), strict=True))
        pyramid: list[torch.Tensor] = []
        for stride in STRIDES:
            if stride in found:
                pyramid.append(found[stride])
            elif stride < min(found):
                pyramid.append(functional.avg_pool2d(x, stride))
            else:
                pyramid.append(functional.max_pool2d(pyramid[-1], 2))
        return pyramid[0], pyramid[1], pyramid[2], pyramid[3], pyramid[4]
