"""Values of more than 8 bits made 8: how many of their 16 bits a file uses."""

from typing import Any

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras and scanners."""

FEW = 0.005
"""The part of the values above 0 that may be too large for the bits that the others use."""


def to_bytes(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Uint8 of uint8, or of uint16 that use so many bits: the upper eight of these are kept, larger values are 255."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.minimum(pixels >> max(0, bits - 8), 255).astype(np.uint8)


def brightness(samples: np.ndarray) -> np.ndarray:
    """(7,) int64 of values of 16 bits, to be summed over pieces: those above 0, and those too large for each depth but
    the last; then the largest of all."""
    above = [np.count_nonzero(samples >= 2**depth) for depth in DEPTHS[:-1]]
    return np.array([np.count_nonzero(samples), *above, 0, int(samples.max(initial=0))], dtype=np.int64)


def together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The `brightness` of two pieces."""
    return np.append(one[:-1] + other[:-1], max(one[-1], other[-1]))


def brightest_bits(name: object, found: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """The bits that values of 16 use as they show, and a warning that names the choice where they are fewer.

    A few values may be larger: dead pixels of a camera, a scale bar drawn in. They become white.

    Args:
        name: of the file, for the warning.
        found: `brightness` of the picture; where less than one value in 200 reaches a quarter of 65,535 the picture
            would come out dark.
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
