"""Convert 16-bit values to 8 bits: find how many of the 16 bits a file uses."""

from typing import Any

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras and scanners."""

FEW = 0.005
"""Fraction of the values above 0 that may exceed the chosen bit depth."""


def to_bytes(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Convert uint8, or uint16 that uses `bits` bits, to uint8: the upper eight of these; larger values become 255."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.minimum(pixels >> max(0, bits - 8), 255).astype(np.uint8)


def brightness(samples: np.ndarray) -> np.ndarray:
    """Compute statistics of 16-bit values, (7,) int64, to be merged over pieces.

    The number of values above 0, of those too large for each depth but the last, and the maximum.
    """
    above = [np.count_nonzero(samples >= 2**depth) for depth in DEPTHS[:-1]]
    return np.array([np.count_nonzero(samples), *above, 0, int(samples.max(initial=0))], dtype=np.int64)


def together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Merge the `brightness` of two pieces."""
    return np.append(one[:-1] + other[:-1], max(one[-1], other[-1]))


def brightest_bits(name: object, found: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """Estimate how many bits 16-bit values use; with a warning that states the choice where it is below 16.

    A few values may be larger (dead camera pixels, a scale bar drawn in); they become white.

    Args:
        name: name of the file, for the warning.
        found: `brightness` of the picture; if fewer than one value in 200 reach a quarter of 65,535, scaling all 16
            bits would give a dark picture.
    """
    above, brightest = found[1:-1], int(found[-1])
    bits = next(depth for depth, count in zip(DEPTHS, above, strict=True) if count <= FEW * found[0])
    if bits == 16 or brightest == 0:
        return 16, ()
    values = f"hold values up to {brightest} only"
    if brightest >= 2**bits:
        values = f"hold values below {2**bits} but for {above[DEPTHS.index(bits)] / found[0]:.2%} of them"
    return bits, (
        f"{name}: its 16 bits {values}, and it does not say how many bits it uses: they are "
        f"taken for {bits} bits, so that {2**bits - 1} is white",
    )


def declared_bits(page: Any, ome: Any = None) -> int | None:
    """Return the number of bits that a TIFF page of 16-bit samples declares, or None where it declares none.

    Args:
        page: tifffile's page.
        ome: its OME-XML Pixels element, if there is one.
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
