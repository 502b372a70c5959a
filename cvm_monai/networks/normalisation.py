"""Choices of normalisation of the networks' feature maps. Importing this loads no torch."""

from typing import get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import EncoderNorm, Normalisation

GROUPS = 8
"""Number of channel groups of `group`, where it divides the channels."""


def check_normalisation(kind: str) -> None:
    """Raise CvmError for an unknown normalisation."""
    if kind not in get_args(Normalisation):
        raise CvmError(f"normalisation must be one of {', '.join(get_args(Normalisation))}, got {kind!r}")


def encoder_normalisation(
    normalisation: Normalisation, encoder_norm: EncoderNorm | None, *, with_weights: bool
) -> tuple[Normalisation, bool]:
    """Return the normalisation of an encoder's layers, and whether their running statistics are frozen.

    Args:
        normalisation: of the rest of the network, and of an encoder that starts at random.
        encoder_norm: None is `frozen` where there are weights.
        with_weights: whether the encoder is read from a file.

    Raises:
        CvmError: an unknown choice.
    """
    check_normalisation(normalisation)
    if encoder_norm is not None and encoder_norm not in get_args(EncoderNorm):
        raise CvmError(f"encoder_norm must be one of {', '.join(get_args(EncoderNorm))}, got {encoder_norm!r}")
    if encoder_norm is None:
        return ("batch", True) if with_weights else (normalisation, False)
    return ("instance" if encoder_norm == "instance" else "batch"), encoder_norm == "frozen"
