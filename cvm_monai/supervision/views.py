"""Random rotations and colour changes of a batch of images, drawn by torch's generator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cvm_monai.errors import CvmError
from cvm_monai.losses.checks import check_number

GREY = (0.299, 0.587, 0.114)
"""Rec. 601 weights of red, green and blue."""


def turn(values: Tensor, quarters: int) -> Tensor:
    """Rotate (..., H, W) by quarter turns; a negative number rotates in the opposite direction."""
    return torch.rot90(values, quarters, dims=(-2, -1))


def per_channel(values: Sequence[float], images: Tensor) -> Tensor:
    """Reshape one value per channel for arithmetic with (B, C, H, W), in their precision and on their device.

    Raises:
        CvmError: the numbers of values and channels differ.
    """
    if len(values) != images.shape[1]:
        raise CvmError(f"{len(values)} values for images of {images.shape[1]} channels: {list(values)}")
    return torch.tensor(list(values), dtype=images.dtype, device=images.device)[:, None, None]


def check_std(image_std: Sequence[float]) -> tuple[float, ...]:
    """Return the divisor of the images as a tuple; raises CvmError if one is not a positive number."""
    for value in image_std:
        check_number("image_std", value, above=True)
    return tuple(image_std)


def jitter_colours(images: Tensor, *, mean: Sequence[float], std: Sequence[float], amount: float) -> Tensor:
    """Change brightness, contrast and saturation of each RGB image by its own random factors in [1 - a, 1 + a].

    Args:
        images: (B, 3, H, W), normalised by `mean` and `std` from [0, 1], to which each change is clamped.
        amount: a; 0 changes only what lies outside [0, 1].
    """
    factors = 1 + amount * (2 * torch.rand(3, images.shape[0], 1, 1, 1, dtype=images.dtype) - 1)
    brightness, contrast, saturation = factors.to(images.device)
    shift, scale = per_channel(mean, images), per_channel(std, images)
    weights = per_channel(GREY, images)
    rgb = ((images * scale + shift) * brightness).clamp(0, 1)
    level = (rgb * weights).sum(dim=1, keepdim=True).mean(dim=(-2, -1), keepdim=True)
    rgb = ((rgb - level) * contrast + level).clamp(0, 1)
    grey = (rgb * weights).sum(dim=1, keepdim=True)
    rgb = ((rgb - grey) * saturation + grey).clamp(0, 1)
    return (rgb - shift) / scale
