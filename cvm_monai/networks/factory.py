"""Build a network by its name. torch and MONAI are imported only when one is built."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import EncoderNorm, NetworkName, Normalisation
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.large_images import WHOLE, LargeImages

if TYPE_CHECKING:
    from torch import nn

NETWORK_NAMES: tuple[NetworkName, ...] = get_args(NetworkName)
FROZEN_NETWORKS: tuple[NetworkName, ...] = ("frozen_probe", "centred_probe", "frozen_two_component")
"""Names of the networks that learn on a frozen extractor's features and need its file or name."""
NAMED_NETWORKS: tuple[NetworkName, ...] = ("timm_unet", *FROZEN_NETWORKS)
"""Names of the networks that contain the encoder or extractor of `extractor_path`."""


def build_network(
    name: NetworkName,
    *,
    in_channels: int = 3,
    out_channels: int = 2,
    channels: Sequence[int] | None = None,
    normalisation: Normalisation = "instance",
    encoder_weights: str | PathLike[str] | None = None,
    encoder_norm: EncoderNorm | None = None,
    extractor_path: str | PathLike[str] | None = None,
    extractor_weights: str | PathLike[str] | None = None,
    feature_store: FeatureStore = NOT_STORED,
    large_images: LargeImages = WHOLE,
    pretrained: bool = True,
) -> nn.Module:
    """Build a network with random weights, or an encoder from a local file or a package; downloads on request only.

    Each network maps (B, in_channels, H, W) to logits (B, out_channels, h, w) in `forward`; `features(x)` gives the
    logits and Feature Map 2, the last decoder level, both at (h, w) = `output_shape(H, W)`: the input's size divided by
    `stride`, rounded up; 1, or 16 for `two_component`, or the extractor's for `frozen_two_component`.

    Args:
        name: `resnet34_unet`, ResNet34 encoder with a decoder up to full resolution; `unet`, only the paper's U-Net, at
            full resolution; `two_component`, the paper's network (ResNet34 to 1/16, then that U-Net), for large images;
            `timm_unet`, an encoder by name with the decoder of `resnet34_unet`, both trained;
            `frozen_probe`, a linear classifier of a frozen extractor's features; `centred_probe`, the same after each
            image's mean is subtracted; `frozen_two_component`, that U-Net on a frozen extractor's features, at the
            extractor's stride.
        in_channels: channels of the image, at least 1.
        out_channels: classes, at least 2; channel 0 is background.
        channels: five widths: of the decoder from coarse to fine for `resnet34_unet` and `timm_unet`, of the U-Net from
            fine to coarse for the others. Larger ones cost time and memory; 8 to 512. None: the network's own default.
        normalisation: of all parts that start at random; see `Normalisation`.
        encoder_weights: file for `load_encoder_weights`; only for networks with a ResNet34 encoder.
        encoder_norm: see `EncoderNorm`; None: `frozen` with `encoder_weights` and for `timm_unet`, else
            `normalisation` applies to the encoder too.
        extractor_path, extractor_weights: of `timm_unet`, see `TimmUNet`; of the networks on a frozen extractor, with
            feature_store, see `FrozenExtractor`; ignored by the others.
        large_images: how images of thousands of pixels fit into memory; used by `two_component` only.
        pretrained: False starts an encoder or extractor given by name (`imagenet`, `timm:NAME`) at random, for a
            training's weights, which contain it, to be loaded next.

    Raises:
        CvmError: unknown name, wrong widths or channels, or encoder weights that cannot be used.

    Example:
        >>> import cvm_monai as cvm, torch
        >>> network = cvm.build_network("unet", channels=[4, 8, 8, 8, 8])
        >>> logits, features = network.features(torch.zeros(1, 3, 64, 48))
        >>> tuple(logits.shape), tuple(features.shape)
        ((1, 2, 64, 48), (1, 4, 64, 48))
    """
    if name not in NETWORK_NAMES:
        raise CvmError(f"unknown network {name!r}: choose one of {', '.join(NETWORK_NAMES)}")
    arguments: dict[str, Any] = {"in_channels": in_channels, "out_channels": out_channels}
    if name in FROZEN_NETWORKS:
        arguments |= {
            "extractor_path": extractor_path,
            "extractor_weights": extractor_weights,
            "feature_store": feature_store,
            "pretrained": pretrained,
        }
        if name == "frozen_two_component":
            arguments["normalisation"] = normalisation
        return _frozen(name, arguments, channels=channels, encoder_weights=encoder_weights)
    arguments["normalisation"] = normalisation
    if name == "unet":
        from cvm_monai.networks.unet import UNet

        if encoder_weights is not None:
            raise CvmError("the network 'unet' has no ResNet34 encoder: drop encoder_weights or use 'resnet34_unet'")
        return UNet(**arguments) if channels is None else UNet(**arguments, channels=channels)
    arguments["encoder_norm"] = encoder_norm
    if name == "timm_unet":
        from cvm_monai.networks.timm_unet import TimmUNet

        if encoder_weights is not None:
            raise CvmError("the network 'timm_unet' takes its encoder by extractor_path: drop encoder_weights")
        arguments |= {
            "extractor_path": extractor_path,
            "extractor_weights": extractor_weights,
            "pretrained": pretrained,
        }
        return TimmUNet(**arguments) if channels is None else TimmUNet(**arguments, decoder_channels=channels)
    arguments["encoder_weights"] = encoder_weights
    if name == "two_component":
        from cvm_monai.networks.two_component import TwoComponentNet

        arguments["large_images"] = large_images
        return TwoComponentNet(**arguments) if channels is None else TwoComponentNet(**arguments, channels=channels)
    from cvm_monai.networks.resnet34_unet import ResNet34UNet

    return ResNet34UNet(**arguments) if channels is None else ResNet34UNet(**arguments, decoder_channels=channels)


def _frozen(
    name: NetworkName,
    arguments: dict[str, Any],
    *,
    channels: Sequence[int] | None,
    encoder_weights: str | PathLike[str] | None,
) -> nn.Module:
    """Build a network on a frozen extractor."""
    if name in ("frozen_probe", "centred_probe"):
        for knob, value in (("network_channels", channels), ("encoder_weights", encoder_weights)):
            if value is not None:
                raise CvmError(f"the network {name!r} is its extractor and one layer: drop {knob}")
        if name == "centred_probe":
            from cvm_monai.networks.centred_probe import CentredProbe

            return CentredProbe(**arguments)
        from cvm_monai.networks.frozen import FrozenProbe

        return FrozenProbe(**arguments)
    from cvm_monai.networks.frozen_two_component import FrozenTwoComponentNet

    if encoder_weights is not None:
        raise CvmError("the network 'frozen_two_component' takes its extractor by extractor_path: drop encoder_weights")
    return (
        FrozenTwoComponentNet(**arguments)
        if channels is None
        else FrozenTwoComponentNet(**arguments, channels=channels)
    )
