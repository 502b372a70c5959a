"""A U-Net on an encoder by name, trained end to end: EfficientNet-Lite with ImageNet weights, or a network of timm."""

from collections.abc import Sequence
from os import PathLike
from typing import cast, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvm_monai.errors import CvmError
from cvm_monai.knobs import EncoderNorm, Normalisation
from cvm_monai.networks.blocks import check_widths
from cvm_monai.networks.extractor_files import checked_encoder
from cvm_monai.networks.extractor_names import is_imagenet, is_name, lite_name
from cvm_monai.networks.imagenet_extractor import ImageNetEncoder
from cvm_monai.networks.pyramid_unet import DECODER_CHANNELS, PyramidUNet
from cvm_monai.networks.timm_encoder import TimmEncoder


class TimmUNet(PyramidUNet):
    """Map (B, 3, H, W), normalised, to logits (B, out_channels, H, W), any H, W, see `PyramidUNet`; all of it learns.

    Args:
        decoder_channels: as of `ResNet34UNet`.
        normalisation: of the decoder, see `Normalisation`.
        encoder_norm: of the encoder's batch normalisations, see `EncoderNorm`; None is `frozen`.
        extractor_path: `imagenet`, `imagenet:lite1`, `imagenet:lite2`, see `ImageNetEncoder`; `timm:NAME` or
            `timm:NAME@pretrained`, see `TimmEncoder`.
        extractor_weights: of `timm:NAME`, a local file.
        pretrained: False starts the encoder at random, for weights that are loaded next.

    Raises:
        CvmError: other images than RGB, fewer than two classes, not five positive widths, an unknown normalisation,
            or an encoder that is not a name, lacks such a normalisation, or cannot be obtained.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        normalisation: Normalisation = "instance",
        encoder_norm: EncoderNorm | None = None,
        extractor_path: str | PathLike[str] | None,
        extractor_weights: str | PathLike[str] | None = None,
        pretrained: bool = True,
    ) -> None:
        widths = check_widths(
            decoder_channels, in_channels=in_channels, out_channels=out_channels, name="decoder_channels"
        )
        if in_channels != 3:
            raise CvmError(f"in_channels must be 3 for an encoder by name, not {in_channels}")
        norm = encoder_norm or "frozen"
        if norm not in get_args(EncoderNorm):
            raise CvmError(f"encoder_norm must be one of {', '.join(get_args(EncoderNorm))}, got {encoder_norm!r}")
        encoder = _encoder(extractor_path, extractor_weights, pretrained=pretrained)
        if norm == "instance":
            normalise_by_image(encoder)
        super().__init__(
            encoder,
            encoder.channels,
            in_channels=in_channels,
            out_channels=out_channels,
            widths=widths,
            normalisation=normalisation,
            frozen=norm == "frozen",
        )


def normalise_by_image(encoder: nn.Module) -> None:
    """Replace batch by instance normalisation in place, with the same scale and shift.

    Raises:
        CvmError: an encoder without batch normalisation, or with one that does more than normalise.
    """
    norms = [
        (parent, name)
        for parent in encoder.modules()
        for name, part in parent.named_children()
        if isinstance(part, _BatchNorm)
    ]
    if not norms or any(type(getattr(parent, name)) is not nn.BatchNorm2d for parent, name in norms):
        raise CvmError(
            "this encoder has no plain batch normalisation to replace by encoder_norm instance: take frozen or batch"
        )
    for parent, name in norms:
        before = cast(nn.BatchNorm2d, getattr(parent, name))
        after = nn.InstanceNorm2d(before.num_features, eps=before.eps, affine=True)
        after.weight, after.bias = before.weight, before.bias
        setattr(parent, name, after)


def _encoder(
    path: str | PathLike[str] | None, weights: str | PathLike[str] | None, *, pretrained: bool
) -> ImageNetEncoder | TimmEncoder:
    """Build the encoder that the name means."""
    name = str(path) if is_name(path) and not pretrained else checked_encoder(path, weights)
    if is_imagenet(name):
        return ImageNetEncoder(lite_name(name), pretrained=pretrained)
    return TimmEncoder(name, weights, pretrained=pretrained)
