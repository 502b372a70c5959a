"""A U-Net with a ResNet34 encoder and a decoder up to full resolution; it can be scripted and exported to ONNX."""

from collections.abc import Sequence
from os import PathLike

from cvm_monai.knobs import EncoderNorm, Normalisation
from cvm_monai.networks.blocks import check_widths
from cvm_monai.networks.encoder import STAGE_CHANNELS, ResNet34Encoder
from cvm_monai.networks.normalisation import encoder_normalisation
from cvm_monai.networks.pyramid_unet import DECODER_CHANNELS, PyramidUNet
from cvm_monai.networks.weights import load_encoder_weights


class ResNet34UNet(PyramidUNet):
    """(B, in_channels, H, W) to logits (B, out_channels, H, W), any H and W.

    The skips are the maps of layers 3, 2 and 1, of the stem (stride 2), and of the image itself, see `PyramidUNet`.
    Feature Map 2 is the last level, decoder_channels[-1] wide.

    Args:
        decoder_channels: widths from coarse to fine; larger ones cost time and memory, the last one most; five of 8 to
            512. The last is the length of the feature vectors that the contrast maps compare (Eq. 4).
        normalisation: see `Normalisation`.
        encoder_weights: local file for `load_encoder_weights`; None starts at random.
        encoder_norm: see `EncoderNorm`; None: `frozen` with `encoder_weights`, else as `normalisation`.

    Raises:
        CvmError: not five positive widths, no input channel, fewer than two classes, an unknown normalisation, or
            weights that do not fit.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        normalisation: Normalisation = "instance",
        encoder_weights: str | PathLike[str] | None = None,
        encoder_norm: EncoderNorm | None = None,
    ) -> None:
        widths = check_widths(
            decoder_channels, in_channels=in_channels, out_channels=out_channels, name="decoder_channels"
        )
        of_encoder, frozen = encoder_normalisation(
            normalisation, encoder_norm, with_weights=encoder_weights is not None
        )
        super().__init__(
            ResNet34Encoder(in_channels, normalisation=of_encoder),
            STAGE_CHANNELS,
            in_channels=in_channels,
            out_channels=out_channels,
            widths=widths,
            normalisation=normalisation,
            frozen=frozen,
        )
        if encoder_weights is not None:
            load_encoder_weights(self, encoder_weights)
