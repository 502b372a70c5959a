"""Images and slides opened at a requested um/px."""

from cvm_monai.slides.image import IMAGE_SUFFIXES, image_size, read_image, read_mask
from cvm_monai.slides.levels import Level
from cvm_monai.slides.mpp import Mpp, check_mpp, require_mpp
from cvm_monai.slides.opening import SLIDE_SUFFIXES, open_image
from cvm_monai.slides.slide import SlideImage

__all__ = [
    "IMAGE_SUFFIXES",
    "SLIDE_SUFFIXES",
    "Level",
    "Mpp",
    "SlideImage",
    "check_mpp",
    "image_size",
    "open_image",
    "read_image",
    "read_mask",
    "require_mpp",
]
