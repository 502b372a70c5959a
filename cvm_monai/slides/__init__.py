"""Images opened and measured."""

from cvm_monai.slides.image import IMAGE_SUFFIXES, image_size, read_image, read_mask

__all__ = ["IMAGE_SUFFIXES", "image_size", "read_image", "read_mask"]
