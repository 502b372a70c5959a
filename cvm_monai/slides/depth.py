"""Values of more than 8 bits made 8: how many of their 16 bits a file uses."""

from typing import Any

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras and scanners."""


def to_bytes(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Uint8 of uint8, or of uint16 that use so many bits: the upper eight of these are kept, larger values are 255."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.minimum(pixels >> max(0, bits - 8), 255).astype(np.uint8)


def brightest_bits(name: object, brightest: int) -> tuple[int, tuple[str, ...]]:
    """The bits that values of 16 use as their largest shows, and a warning that names the choice where they are fewer.

    Args:
        name: of the file, for the warning.
        brightest: the largest value; where it is below a quarter of 65,535 the picture would come out dark.
    """
    bits = next(depth for depth in DEPTHS if brightest < 2**depth)
    if bits == 16 or brightest == 0:
        return 16, ()
    return bits, (
        f"{name}: its 16 bits hold values up to {brightest} only, and it does not say how many bits it uses: they are "
        f"taken for {bits} bits, so that {2**bits - 1} is white",
    )


def declared_bits(page: Any, ome: Any = None) -> int | None:
    """The bits that a TIFF page of 16-bit samples says it uses, or None where it says nothing.

    Args:
        page: of tifffile.
        ome: its Pixels element of OME-XML, if there is one.
    """
    if 8 < page.bitspersample < 16:  # packed: the file stores no more
        return int(page.bitspersample)
    said = page.tags.valueof("MaxSampleValue", default=None)
    try:
        largest = int(np.max(said)) if said is not None else 0
        significant = int(ome.get("SignificantBits", 0)) if ome is not None else 0
    except (TypeError, ValueError):
        return None
    if 8 <= significant <= 16:
        return significant
    return max(8, largest.bit_length()) if 0 < largest < 2**16 else None
