"""Label images as regions: value c is class c."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cvm_monai.annotations.parsed_object import ParsedObject
from cvm_monai.annotations.polygons import regions_from_labels
from cvm_monai.annotations.stored import open_stored, stored_labels
from cvm_monai.errors import CvmError

SUFFIXES = (".png", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**28
"""Larger ones are refused before they are decoded."""


def iter_label_image(path: Path) -> Iterator[ParsedObject]:
    """The connected parts of each value, in ascending order of values, with outlines along the borders of pixels.

    The label is the value, as a number: 0 = background, 1 = target, 255 = exclusion, unless a class map says more.

    Raises:
        CvmError: a file that is missing, unreadable, or not one channel of integers.
    """
    pixels = _decode(path)
    for value in np.unique(pixels).tolist():
        for part in _parts(pixels == value):
            yield ParsedObject(str(value), f"{path}, value {value}", outlines=[part])


def _parts(mask: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The rings of each part of a (H, W) bool mask, (N, 2) vertices (x, y)."""
    for region in regions_from_labels(mask.astype(np.uint8)):
        yield tuple(np.array(ring) for ring in (region.exterior, *region.holes))


def _decode(path: Path) -> np.ndarray:
    """(H, W) integers as the file stores them, see `stored_labels`."""
    if path.is_dir() or not path.exists():
        raise CvmError(f"{path} {'is a folder; give a file' if path.is_dir() else 'does not exist'}")
    try:
        with open_stored(path, max_pixels=MAX_PIXELS, what="label image") as opened:
            return stored_labels(opened, path)
    except Exception as error:  # decoders raise many kinds
        raise CvmError(f"{path} cannot be read as a label image: {error}") from None
