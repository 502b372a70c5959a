"""Read label images as regions: value c is class c."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cvm_monai.annotations.parsed_object import ParsedObject
from cvm_monai.annotations.polygons import regions_from_labels
from cvm_monai.annotations.stored import open_stored, stored_labels
from cvm_monai.errors import CvmError

SUFFIXES = (".png", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**28
"""Largest number of pixels; larger images are refused before they are decoded."""


def iter_label_image(path: Path) -> Iterator[ParsedObject]:
    """Yield the connected components of each value, in ascending order of values, outlined along pixel borders.

    The label is the value, as a number: 0 = background, 1 = target, 255 = exclusion, unless a class map differs.

    Raises:
        CvmError: a file that is missing, unreadable, or not one channel of integers.
    """
    pixels = _decode(path)
    for value in np.unique(pixels).tolist():
        for part in _parts(pixels == value):
            yield ParsedObject(str(value), f"{path}, value {value}", outlines=[part])


def _parts(mask: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the rings of each connected component of a (H, W) bool mask, (N, 2) vertices (x, y)."""
    for region in regions_from_labels(mask.astype(np.uint8)):
        yield tuple(np.array(ring) for ring in (region.exterior, *region.holes))


def _decode(path: Path) -> np.ndarray:
    """Decode a file to the (H, W) integers that it stores, see `stored_labels`."""
    if path.is_dir() or not path.exists():
        raise CvmError(f"{path} {'is a folder; give a file' if path.is_dir() else 'does not exist'}")
    try:
        with open_stored(path, max_pixels=MAX_PIXELS, what="label image") as opened:
            return stored_labels(opened, path)
    except Exception as error:  # decoders raise many types
        raise CvmError(f"{path} cannot be read as a label image: {error}") from None
