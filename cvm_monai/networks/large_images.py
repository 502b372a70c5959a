"""How a network computes the features of images of thousands of pixels. Importing this loads no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

Extraction = Literal["whole", "checkpointed", "multi_stage"]
EncoderNorm = Literal["batch", "frozen"]
STRIDE = 16
"""Patches and halos are whole cells of Feature Map 1."""
PATCH_SIZE, HALO = 1024, 192


@dataclass(frozen=True)
class LargeImages:
    """What `two_component` does to fit a large image into memory while it trains.

    Attributes:
        extraction: `whole`, one forward pass of the extractor, whose every activation is held for the backward pass;
            `checkpointed`, the same numbers with the activations of each residual block computed twice; `multi_stage`,
            patch by patch, each computed twice, so that memory grows with Feature Map 1 alone (`multi_stage`).
        patch_size: side in pixels of the patches of `multi_stage`; raising it takes more memory and repeats less of the
            halo; a multiple of 16 from 64; 512 to 2048. Images up to this size are extracted whole.
        halo: pixels read around each patch in `multi_stage`; raising it brings features near a patch's border closer to
            those of the whole image and costs (1 + 2 halo / patch_size)^2 of the time; a multiple of 16 from 0; 288 is
            the reach of the ResNet34: exact where the normalisation is frozen.
        encoder_norm: `batch`, the extractor normalises by the statistics of the batch (in `multi_stage`: of each patch)
            while it trains; `frozen`, by the running ones that its weights came with, which then do not change: for
            weights from a file only, since those of a random start know nothing of its activations.

    Raises:
        ValueError: an unknown choice, or a size that is no such multiple.
    """

    extraction: Extraction = "whole"
    patch_size: int = PATCH_SIZE
    halo: int = HALO
    encoder_norm: EncoderNorm = "batch"

    def __post_init__(self) -> None:
        for name, choices in (("extraction", get_args(Extraction)), ("encoder_norm", get_args(EncoderNorm))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, low in (("patch_size", 64), ("halo", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low or value % STRIDE:
                raise ValueError(f"{name} must be a multiple of {STRIDE} of at least {low} pixels, got {value!r:.60}")


WHOLE = LargeImages()
