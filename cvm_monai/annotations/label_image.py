"""Label images as regions: value c is class c."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations.found import Found
from cvm_monai.annotations.polygons import regions_from_labels

SUFFIXES = (".png", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**28
"""Larger TIFFs are refused before they are decoded; of PNG and BMP Pillow refuses as many."""


def iter_label_image(path: Path) -> Iterator[Found]:
    """The connected parts of each value, in ascending order of values, with outlines along the borders of pixels.

    The label is the value, as a number: 0 = background, 1 = target, 255 = exclusion, unless a class map says more.

    Raises:
        ValueError: a file that is missing, unreadable, or not one channel of integers.
    """
    pixels = _decode(path)
    for value in np.unique(pixels).tolist():
        for part in _parts(pixels == value):
            yield Found(str(value), f"{path}, value {value}", outlines=[part])


def _parts(mask: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The rings of each part of a (H, W) bool mask, (N, 2) vertices (x, y)."""
    for region in regions_from_labels(mask.astype(np.uint8)):
        yield tuple(np.array(ring) for ring in (region.exterior, *region.holes))


def _decode(path: Path) -> np.ndarray:
    """(H, W) integers; of a palette the indices."""
    if path.is_dir() or not path.exists():
        raise ValueError(f"{path} {'is a folder; give a file' if path.is_dir() else 'does not exist'}")
    try:
        pixels = _tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _picture(path)
    except Exception as error:  # decoders raise many kinds
        raise ValueError(f"{path} cannot be read as a label image: {error}") from None
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4) and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise ValueError(f"{path} has colours, where a label image is one channel of labels (0 = background)")
    if pixels.dtype != bool and not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"{path}: its pixels are {pixels.dtype}; save the labels as integers")
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image)


def _tiff(path: Path) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.size > MAX_PIXELS:
            raise ValueError(f"{page.imagewidth} x {page.imagelength} px are too many for a label image")
        return page.asarray()
