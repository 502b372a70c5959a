"""EfficientNet-Lite for images normalised by ImageNet's statistics: an encoder, and an extractor of joined stages."""

import torch
from torch import nn

from cvm_monai.networks.efficientnet_lite import EfficientNetLite, Stages, load_imagenet
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.networks.extractor_names import LiteName
from cvm_monai.networks.stages import join_stages


class ImageNetEncoder(nn.Module):
    """(B, 3, H, W), normalised by ImageNet's mean and deviation, to the maps of strides 2, 4, 8, 16 and 32.

    EfficientNet-Lite's own input, (255 v - 127) / 128 of values v in [0, 1], is computed from the normalised image.

    Args:
        name: see `EfficientNetLite`.
        pretrained: False starts at random, for weights that are loaded next.

    Attributes:
        channels: of the five maps.

    Raises:
        CvmError: the package of the weights is missing or changed.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, name: LiteName, *, pretrained: bool = True) -> None:
        super().__init__()
        self.network = load_imagenet(name) if pretrained else EfficientNetLite(name)
        self.channels = self.network.channels
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (255 * deviation / 128)[:, None, None], persistent=False)
        self.register_buffer("shift", ((255 * mean - 127) / 128)[:, None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> Stages:
        return self.network.forward_stages(x * self.scale + self.shift)


class ImageNetExtractor(nn.Module):
    """(B, 3, H, W), normalised, to the stages at 1/8, 1/16 and 1/32 joined on the grid of 1/8, see `join_stages`.

    472 channels (40, 112 and 320) for `lite0` and `lite1`, 520 (48, 120 and 352) for `lite2`.
    """

    def __init__(self, name: LiteName, *, pretrained: bool = True) -> None:
        super().__init__()
        self.encoder = ImageNetEncoder(name, pretrained=pretrained)

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the three maps at 1/8, 1/16 and 1/32, not yet joined."""
        return list(self.encoder(x)[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return join_stages(self.stages(x))
