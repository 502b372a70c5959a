"""The paper's U-Net: the second component of its network, or a network by itself."""

from collections.abc import Sequence

import torch
from torch import nn

from cvm_monai.knobs import Normalisation
from cvm_monai.networks.blocks import DoubleConv, check_widths, pad_to_multiple, without_encoder


class Up(nn.Module):
    """Bilinear upsampling by 2 with aligned corners, concatenation [skip, up], double convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, normalisation: Normalisation) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
        self.conv = DoubleConv(in_channels, out_channels, bias=True, normalisation=normalisation)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    """(B, in_channels, H, W) to logits (B, out_channels, H, W), any H and W.

    Four max-poolings; Feature Map 2 is the output of `up4`, channels[0] wide; the 1x1 output layer has no bias.

    Args:
        channels: widths from fine to coarse; larger ones cost time and memory; five of 8 to 512.
        normalisation: see `Normalisation`.

    Raises:
        CvmError: not five positive widths, no input channel, fewer than two classes, or an unknown normalisation.
    """

    stride = 1

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        normalisation: Normalisation = "instance",
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = check_widths(channels, in_channels=in_channels, out_channels=out_channels, name="channels")
        self.pool = nn.MaxPool2d(2)
        self.down1 = DoubleConv(in_channels, c1, bias=True, normalisation=normalisation)
        self.down2 = DoubleConv(c1, c2, bias=True, normalisation=normalisation)
        self.down3 = DoubleConv(c2, c3, bias=True, normalisation=normalisation)
        self.down4 = DoubleConv(c3, c4, bias=True, normalisation=normalisation)
        self.down5 = DoubleConv(c4, c5, bias=True, normalisation=normalisation)
        self.up1 = Up(c5 + c4, c3, normalisation=normalisation)
        self.up2 = Up(c3 + c3, c2, normalisation=normalisation)
        self.up3 = Up(c2 + c2, c1, normalisation=normalisation)
        self.up4 = Up(c1 + c1, c1, normalisation=normalisation)
        self.out = nn.Conv2d(c1, out_channels, kernel_size=1, bias=False)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and Feature Map 2 (B, channels[0], H, W)."""
        return self.decode(self.encode(x), x.shape[-2], x.shape[-1])

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the decoder's inputs: the maps of strides 1, 2, 4, 8 and 16, of the padded image."""
        d1 = self.down1(pad_to_multiple(x, 16))
        d2 = self.down2(self.pool(d1))
        d3 = self.down3(self.pool(d2))
        d4 = self.down4(self.pool(d3))
        return [d1, d2, d3, d4, self.down5(self.pool(d4))]

    def decode(self, maps: list[torch.Tensor], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and Feature Map 2, (height, width) = `output_shape` of the image, from the maps of `encode`."""
        d1, d2, d3, d4, d5 = maps
        last = self.up4(self.up3(self.up2(self.up1(d5, d4), d3), d2), d1)[:, :, :height, :width]
        return self.out(last), last

    def new_decoder(self) -> nn.Module:
        """Build a second decoder of this shape with fresh weights; only its `decode` is used."""
        return without_encoder(self, encoder_parts=("down1", "down2", "down3", "down4", "down5"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width
