"""A U-Net with a ResNet34 encoder and a decoder up to full resolution; it can be scripted and exported to ONNX."""

from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from cvm_monai.networks.blocks import (
    DoubleConv,
    check_widths,
    keep_statistics,
    pad_to_multiple,
    without_encoder,
)
from cvm_monai.networks.encoder import STAGE_CHANNELS, ResNet34Encoder
from cvm_monai.networks.normalisation import EncoderNorm, Normalisation, encoder_normalisation
from cvm_monai.networks.weights import load_encoder_weights

DETAIL_CHANNELS = 16
"""Width of the full-resolution skip, which gives Feature Map 2 the image's own edges."""


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


class ResNet34UNet(nn.Module):
    """(B, in_channels, H, W) to logits (B, out_channels, H, W), any H and W.

    The five decoder levels take the skips of layers 3, 2 and 1, of the stem (stride 2), and of a shallow double
    convolution of the image itself (stride 1). Feature Map 2 is the last level, decoder_channels[-1] wide.

    Args:
        decoder_channels: widths from coarse to fine; larger ones cost time and memory, the last one most; five of 8 to
            512. The last is the length of the feature vectors that the contrast maps compare (Eq. 4).
        normalisation: see `Normalisation`.
        encoder_weights: local file for `load_encoder_weights`; None starts at random.
        encoder_norm: see `EncoderNorm`; None: `frozen` with `encoder_weights`, else the encoder is as the rest.

    Raises:
        ValueError: not five positive widths, no input channel, fewer than two classes, an unknown normalisation, or
            weights that do not fit.
    """

    stride = 1

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        decoder_channels: Sequence[int] = (256, 128, 64, 48, 32),
        normalisation: Normalisation = "instance",
        encoder_weights: str | PathLike[str] | None = None,
        encoder_norm: EncoderNorm | None = None,
    ) -> None:
        super().__init__()
        widths = check_widths(
            decoder_channels, in_channels=in_channels, out_channels=out_channels, name="decoder_channels"
        )
        of_encoder, self._frozen = encoder_normalisation(
            normalisation, encoder_norm, with_weights=encoder_weights is not None
        )
        self.encoder = ResNet34Encoder(in_channels, normalisation=of_encoder)
        self.detail = DoubleConv(in_channels, DETAIL_CHANNELS, bias=False, normalisation=normalisation)
        stem, first, second, third, fourth = STAGE_CHANNELS
        self.level1 = DecoderLevel(fourth, third, widths[0], normalisation=normalisation)
        self.level2 = DecoderLevel(widths[0], second, widths[1], normalisation=normalisation)
        self.level3 = DecoderLevel(widths[1], first, widths[2], normalisation=normalisation)
        self.level4 = DecoderLevel(widths[2], stem, widths[3], normalisation=normalisation)
        self.level5 = DecoderLevel(widths[3], DETAIL_CHANNELS, widths[4], normalisation=normalisation)
        self.out = nn.Conv2d(widths[4], out_channels, kernel_size=1)
        if encoder_weights is not None:
            load_encoder_weights(self, encoder_weights)

    def train(self, mode: bool = True) -> "ResNet34UNet":
        """Training mode or evaluation mode; frozen statistics stay as they are."""
        super().train(mode)
        if self._frozen:
            keep_statistics(self.encoder)
        return self

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and Feature Map 2 (B, decoder_channels[-1], H, W)."""
        return self.decode(self.encode(x), x.shape[-2], x.shape[-1])

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the decoder is given: the maps of strides 2, 4, 8, 16, 32 and 1, of the padded image."""
        padded = pad_to_multiple(x, 32)
        stem, first, second, third, fourth = self.encoder(padded)
        return [stem, first, second, third, fourth, self.detail(padded)]

    def decode(self, maps: list[torch.Tensor], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and Feature Map 2, (height, width) = `output_shape` of the image, from the maps of `encode`."""
        stem, first, second, third, fourth, detail = maps
        coarse = self.level3(self.level2(self.level1(fourth, third), second), first)
        last = self.level5(self.level4(coarse, stem), detail)[:, :, :height, :width]
        return self.out(last), last

    def new_decoder(self) -> nn.Module:
        """A second decoder of this shape with fresh weights, for its `decode` alone."""
        return without_encoder(self, encoder_parts=("encoder", "detail"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width
