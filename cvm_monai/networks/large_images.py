"""Options for computing the features of images of thousands of pixels. Importing this loads no torch."""

from dataclasses import dataclass
from typing import get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import Extraction

STRIDE = 16
"""Patches and halos are whole cells of Feature Map 1."""
PATCH_SIZE, HALO = 1024, 192


@dataclass(frozen=True)
class LargeImages:
    """Options of `two_component` that fit a large training image into memory.

    Attributes:
        extraction: `whole`, one forward pass of the extractor, with all activations held for the backward pass;
            `checkpointed`, the same numbers with the activations of each residual block computed twice; `multi_stage`,
            patch by patch, each computed twice, so that memory grows with Feature Map 1 alone (`multi_stage`).
        patch_size: side in pixels of the patches of `multi_stage`; raising it takes more memory and repeats less of the
            halo; a multiple of 16 from 64; 512 to 2048. Images up to this size are extracted whole.
        halo: pixels read around each patch in `multi_stage`; raising it brings features near a patch's border closer to
            those of the whole image and costs (1 + 2 halo / patch_size)^2 of the time; a multiple of 16 from 0; 288 is
            the reach of the ResNet34: exact where the normalisation is frozen.

    Raises:
        CvmError: an unknown choice, or a size that is not such a multiple.
    """

    extraction: Extraction = "whole"
    patch_size: int = PATCH_SIZE
    halo: int = HALO

    def __post_init__(self) -> None:
        if self.extraction not in get_args(Extraction):
            raise CvmError(f"extraction must be one of {', '.join(get_args(Extraction))}, got {self.extraction!r}")
        for name, low in (("patch_size", 64), ("halo", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low or value % STRIDE:
                raise CvmError(f"{name} must be a multiple of {STRIDE} of at least {low} pixels, got {value!r:.60}")


WHOLE = LargeImages()
