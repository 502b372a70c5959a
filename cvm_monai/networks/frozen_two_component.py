"""The paper's two-component network with a frozen extractor: only the U-Net on its features is trained."""

from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from cvm_monai.knobs import Normalisation
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen import GRID, FrozenExtractor, check_channels, one_length
from cvm_monai.networks.two_component import MAP_CHANNELS
from cvm_monai.networks.unet import UNet

OTHER_STRIDE = 16
"""Stride of the output where the extractor's stride does not divide 32 (patches of 14 px, for example)."""


class FrozenTwoComponentNet(nn.Module):
    """(B, 3, H, W) to logits (B, out_channels, ceil(H / stride), ceil(W / stride)), any H and W.

    As `TwoComponentNet`, with a frozen extractor in place of the ResNet34: its feature vectors, each scaled to the
    length sqrt(C); a 1x1 convolution without bias to Feature Map 1; the U-Net, whose last level is Feature Map 2. Only
    the convolution and the U-Net learn.

    Args:
        channels: widths of the U-Net from fine to coarse; larger ones cost time and memory; five of 8 to 512.
        normalisation: of the U-Net, see `Normalisation`.
        extractor_path, extractor_weights, feature_store, pretrained: see `FrozenExtractor`; its weights are part of the
            state dict.

    Attributes:
        stride: the extractor's where it divides 32; else 16, and the features are resampled to that grid.

    Raises:
        CvmError: whatever `FrozenExtractor` finds, other images than RGB, fewer than two classes, or not five
            positive widths.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        normalisation: Normalisation = "instance",
        extractor_path: str | PathLike[str] | None,
        extractor_weights: str | PathLike[str] | None = None,
        feature_store: FeatureStore = NOT_STORED,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels)
        self.unet = UNet(MAP_CHANNELS, out_channels, channels=channels, normalisation=normalisation)
        self.extractor = FrozenExtractor(
            extractor_path, weights=extractor_weights, store=feature_store, pretrained=pretrained
        )
        own = self.extractor.stride
        self.stride = own if own is not None and GRID % own == 0 else OTHER_STRIDE
        self.in_conv = nn.Conv2d(self.extractor.channels, MAP_CHANNELS, kernel_size=1, bias=False)
        nn.init.kaiming_normal_(self.in_conv.weight, nonlinearity="linear")

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, h, w) and Feature Map 2 (B, channels[0], h, w), (h, w) = `output_shape(H, W)`."""
        return self.decode(self.encode(x), *self.output_shape(x.shape[-2], x.shape[-1]))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the U-Net's encoder maps: Feature Map 1 at 1, 1/2, ..., 1/16 of its size."""
        height, width = self.output_shape(x.shape[-2], x.shape[-1])
        if self.stride == self.extractor.stride:
            found = self.in_conv(one_length(self.extractor(x)))
            for axis, side in ((2, height), (3, width)):  # torch.export would fix a slice's size
                found = found.index_select(axis, torch.arange(side, device=x.device))
        else:
            found = self.in_conv(one_length(self.extractor.on_grid(x, (height, width))))
        return self.unet.encode(found)

    def decode(self, maps: list[torch.Tensor], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and Feature Map 2, (height, width) = `output_shape` of the image, from the maps of `encode`."""
        return self.unet.decode(maps, height, width)

    def new_decoder(self) -> nn.Module:
        """Build a second decoder of the U-Net's shape with fresh weights; only its `decode` is used."""
        return self.unet.new_decoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: divided by `stride`, rounded up."""
        return (height + self.stride - 1) // self.stride, (width + self.stride - 1) // self.stride
