"""Base of the U-Nets on an encoder of five strides: the full-resolution skip, the decoder, and the passes."""

from collections.abc import Sequence

import torch
from torch import nn

from cvm_monai.knobs import Normalisation
from cvm_monai.networks.blocks import DoubleConv, keep_statistics, pad_to_multiple, without_encoder

DETAIL_CHANNELS = 16
"""Width of the full-resolution skip, which gives Feature Map 2 the image's own edges."""
DECODER_CHANNELS = (256, 128, 64, 48, 32)
"""The default widths from coarse to fine."""


class DecoderLevel(nn.Module):
    """Bilinear upsampling by 2, concatenation with the skip of the finer level, double convolution."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, *, normalisation: Normalisation
    ) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        self.conv = DoubleConv(in_channels + skip_channels, out_channels, bias=False, normalisation=normalisation)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class PyramidUNet(nn.Module):
    """Map (B, in_channels, H, W) to logits (B, out_channels, H, W), any H and W, by an encoder of strides 2 to 32.

    The five decoder levels take the skips of strides 16, 8, 4 and 2, and of a shallow double convolution of the image
    itself (stride 1). Feature Map 2 is the last level, `widths[-1]` wide.

    Args:
        encoder: maps (B, in_channels, h, w), sides multiples of 32, to the maps of strides 2, 4, 8, 16 and 32.
        encoder_channels: of these maps.
        widths: of the decoder from coarse to fine, five.
        normalisation: of the decoder, see `Normalisation`.
        frozen: keep the running statistics of the encoder's batch normalisations, also in training.
    """

    stride = 1

    def __init__(
        self,
        encoder: nn.Module,
        encoder_channels: Sequence[int],
        *,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        normalisation: Normalisation,
        frozen: bool,
    ) -> None:
        super().__init__()
        self._frozen = frozen
        self.encoder = encoder
        self.detail = DoubleConv(in_channels, DETAIL_CHANNELS, bias=False, normalisation=normalisation)
        half, quarter, eighth, sixteenth, last = encoder_channels
        self.level1 = DecoderLevel(last, sixteenth, widths[0], normalisation=normalisation)
        self.level2 = DecoderLevel(widths[0], eighth, widths[1], normalisation=normalisation)
        self.level3 = DecoderLevel(widths[1], quarter, widths[2], normalisation=normalisation)
        self.level4 = DecoderLevel(widths[2], half, widths[3], normalisation=normalisation)
        self.level5 = DecoderLevel(widths[3], DETAIL_CHANNELS, widths[4], normalisation=normalisation)
        self.out = nn.Conv2d(widths[4], out_channels, kernel_size=1)

    def train(self, mode: bool = True) -> "PyramidUNet":
        """Set training or evaluation mode; frozen statistics are never updated."""
        super().train(mode)
        if self._frozen:
            keep_statistics(self.encoder)
        return self

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and Feature Map 2 (B, widths[-1], H, W)."""
        return self.decode(self.encode(x), x.shape[-2], x.shape[-1])

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the decoder's inputs: the maps of strides 2, 4, 8, 16, 32 and 1, of the padded image."""
        padded = pad_to_multiple(x, 32)
        half, quarter, eighth, sixteenth, last = self.encoder(padded)
        return [half, quarter, eighth, sixteenth, last, self.detail(padded)]

    def decode(self, maps: list[torch.Tensor], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and Feature Map 2, (height, width) = `output_shape` of the image, from the maps of `encode`."""
        half, quarter, eighth, sixteenth, coarsest, detail = maps
        coarse = self.level3(self.level2(self.level1(coarsest, sixteenth), eighth), quarter)
        last = self.level5(self.level4(coarse, half), detail)[:, :, :height, :width]
        return self.out(last), last

    def new_decoder(self) -> nn.Module:
        """Build a second decoder of this shape with fresh weights; only its `decode` is used."""
        return without_encoder(self, encoder_parts=("encoder", "detail"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width
