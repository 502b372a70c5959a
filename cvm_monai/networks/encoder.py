"""The ResNet34 encoder: MONAI's ResNet with torchvision's layout, so that torchvision's weights fit it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn
from torch.utils.checkpoint import checkpoint

from cvm_monai.knobs import Normalisation
from cvm_monai.networks.blocks import replace_batch_norms
from cvm_monai.networks.multi_stage import unchanged_statistics
from cvm_monai.networks.normalisation import check_normalisation

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's mean and deviation of RGB in [0, 1], by which images are normalised for torchvision's weights."""
STAGE_CHANNELS = (64, 64, 128, 256, 512)
"""Channels of the stem and of layers 1 to 4, at strides 2, 4, 8, 16 and 32."""
Maps = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class ResNet34Encoder(ResNet):
    """(B, in_channels, H, W) to the maps of the stem and of layers 1 to 4 (He et al., CVPR 2016).

    Its state-dict keys are torchvision's resnet34 without `fc` (and without `layer4` where that is left out), and
    without running statistics where the normalisation is not batch normalisation.

    Args:
        in_channels: channels of the image.
        normalisation: see `Normalisation`.
        with_layer4: False ends at layer 3, stride 16, and the fifth map is the fourth again.
    """

    def __init__(self, in_channels: int, *, with_layer4: bool = True, normalisation: Normalisation) -> None:
        check_normalisation(normalisation)
        super().__init__(
            "basic",
            [3, 4, 6, 3],
            [64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        if not with_layer4:
            self.layer4 = nn.Sequential()
        replace_batch_norms(self, normalisation)  # MONAI's option changes the stem alone

    def forward(self, x: torch.Tensor) -> Maps:  # type: ignore[override]
        stem = self.act(self.bn1(self.conv1(x)))
        first = self.layer1(self.maxpool(stem))
        second = self.layer2(first)
        third = self.layer3(second)
        return stem, first, second, third, self.layer4(third)


class Layer3(nn.Module):
    """Compute the map of the encoder's layer 3 alone, (B, 256, H / 16, W / 16), equal to `encoder(x)[3]`.

    The intermediate maps are freed as early as possible. The receptive field of a feature is 547 x 547 px: 273 px above
    and to the left of its first pixel, (16 r, 16 c), and as far below and to the right.

    Args:
        encoder: used, not copied.
        checkpointed: hold only the input of each residual block, and compute its activations a second time in the
            backward pass: the same numbers, about a quarter of the memory, about a third more time.
    """

    def __init__(self, encoder: ResNet34Encoder, *, checkpointed: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(encoder.conv1, encoder.bn1, encoder.act, encoder.maxpool)
        self.blocks = nn.Sequential(*encoder.layer1, *encoder.layer2, *encoder.layer3)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in (self.stem, *self.blocks):
            x = _recomputed(part, x) if self.checkpointed and torch.is_grad_enabled() else part(x)
        return x


def _recomputed(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Activation checkpointing whose second pass does not update running statistics. No part is random."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), unchanged_statistics(part)

    result: torch.Tensor = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result
