"""Open images and slides, and read them at a requested um/px."""

from cvm_monai.knobs import Origin
from cvm_monai.slides.image import IMAGE_SUFFIXES, read_mask
from cvm_monai.slides.opening import (
    SLIDE_SUFFIXES,
    Picture,
    image_header,
    image_size,
    open_image,
    read_image,
    read_picture,
)
from cvm_monai.slides.pyramid import write_pyramid
from cvm_monai.slides.resolution import Level, Mpp, check_mpp, require_mpp
from cvm_monai.slides.slide import SlideImage, corner, warnings_of
from cvm_monai.slides.source import Bounds
from cvm_monai.slides.tissue import TissueMask, read_tissue_mask, tissue_mask

__all__ = [
    "IMAGE_SUFFIXES",
    "SLIDE_SUFFIXES",
    "Bounds",
    "Level",
    "Mpp",
    "Origin",
    "Picture",
    "SlideImage",
    "TissueMask",
    "check_mpp",
    "corner",
    "image_header",
    "image_size",
    "open_image",
    "read_image",
    "read_mask",
    "read_picture",
    "read_tissue_mask",
    "require_mpp",
    "tissue_mask",
    "warnings_of",
    "write_pyramid",
]
