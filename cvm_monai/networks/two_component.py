"""The paper's network (Fig. 2a): a ResNet34 feature extractor down to 1/16, then a U-Net at that resolution."""

from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.knobs import EncoderNorm, Normalisation
from cvm_monai.networks.blocks import keep_statistics, pad_to_multiple
from cvm_monai.networks.encoder import STAGE_CHANNELS, Layer3, ResNet34Encoder
from cvm_monai.networks.large_images import WHOLE, LargeImages
from cvm_monai.networks.multi_stage import multi_stage, plan_patches
from cvm_monai.networks.normalisation import encoder_normalisation
from cvm_monai.networks.unet import UNet
from cvm_monai.networks.weights import load_encoder_weights

MAP_CHANNELS = 256
"""Width of Feature Map 1, the U-Net's input."""


class TwoComponentNet(nn.Module):
    """(B, in_channels, H, W) to logits (B, out_channels, ceil(H / 16), ceil(W / 16)), any H and W.

    Made for images of thousands of pixels: a 4096 x 4096 image gives 256 x 256 logits. ResNet34 ends at layer 3; a 1x1
    convolution without bias gives Feature Map 1; Feature Map 2 is the U-Net's last level, channels[0] wide.

    Args:
        channels: widths of the U-Net from fine to coarse; larger ones cost time and memory; five of 8 to 512.
        normalisation: see `Normalisation`.
        encoder_weights: local file for `load_encoder_weights`; None starts at random.
        encoder_norm: see `EncoderNorm`; None: `frozen` with `encoder_weights`, else as `normalisation`.
        large_images: how Feature Map 1 is computed, and which activations are held for the backward pass.

    Raises:
        CvmError: not five positive widths, no input channel, fewer than two classes, an unknown normalisation, or
            weights that do not fit.
    """

    stride = 16

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        normalisation: Normalisation = "instance",
        encoder_weights: str | PathLike[str] | None = None,
        encoder_norm: EncoderNorm | None = None,
        large_images: LargeImages = WHOLE,
    ) -> None:
        super().__init__()
        self._large = large_images
        if in_channels < 1:
            raise CvmError(f"in_channels must be at least 1, not {in_channels}")
        self.unet = UNet(MAP_CHANNELS, out_channels, channels=channels, normalisation=normalisation)
        of_encoder, self._frozen = encoder_normalisation(
            normalisation, encoder_norm, with_weights=encoder_weights is not None
        )
        self.encoder = ResNet34Encoder(in_channels, with_layer4=False, normalisation=of_encoder)
        self.in_conv = nn.Conv2d(STAGE_CHANNELS[3], MAP_CHANNELS, kernel_size=1, bias=False)
        nn.init.kaiming_normal_(self.in_conv.weight, nonlinearity="linear")
        if encoder_weights is not None:
            load_encoder_weights(self, encoder_weights)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, h, w) and Feature Map 2 (B, channels[0], h, w) at 1/16."""
        return self.decode(self.encode(x), (x.shape[-2] + 15) // 16, (x.shape[-1] + 15) // 16)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the U-Net's encoder maps of Feature Map 1, at strides 16 to 256."""
        height, width = (x.shape[-2] + 15) // 16, (x.shape[-1] + 15) // 16
        padded = pad_to_multiple(x, 16)
        # Scripting and exporting take the plain forward pass alone; the other ways give the same values.
        third = self.encoder(padded)[3] if torch.jit.is_scripting() else self._layer3(padded)
        return self.unet.encode(self.in_conv(third)[:, :, :height, :width])

    def train(self, mode: bool = True) -> "TwoComponentNet":
        """Set training or evaluation mode; frozen statistics are never updated."""
        super().train(mode)
        if self._frozen:
            keep_statistics(self.encoder)
        return self

    @torch.jit.unused
    def _layer3(self, padded: torch.Tensor) -> torch.Tensor:
        """Compute the map of layer 3 in the way that `large_images` says."""
        large, (height, width) = self._large, padded.shape[-2:]
        layer3 = Layer3(self.encoder, checkpointed=large.extraction == "checkpointed")
        if large.extraction != "multi_stage" or max(height, width) <= large.patch_size:
            return layer3(padded)
        patches = plan_patches(height, width, stride=16, patch_size=large.patch_size, halo=large.halo)
        return multi_stage(padded, layer3, patches)

    def decode(self, maps: list[torch.Tensor], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and Feature Map 2, (height, width) = `output_shape` of the image, from the maps of `encode`."""
        return self.unet.decode(maps, height, width)

    def new_decoder(self) -> nn.Module:
        """Build a second decoder of the U-Net's shape with fresh weights; only its `decode` is used."""
        return self.unet.new_decoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: a sixteenth, rounded up."""
        return (height + 15) // 16, (width + 15) // 16
