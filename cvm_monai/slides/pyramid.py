"""Write tiled pyramids from strips of rows, in bounded memory."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import tifffile

from cvm_monai.errors import CvmError
from cvm_monai.files import nameless_file, replacing

Compression = Literal["zlib", "lzw", "jpeg", "none"]
"""zlib and lzw are lossless; jpeg (quality 90) is for pictures only."""

BIG_BYTES = 2**31
"""Pyramids with more bytes before compression are written as BigTIFF, which may exceed 4 GiB."""

_OPTIONS: dict[Compression, dict[str, Any]] = {
    "zlib": {"compression": "zlib", "predictor": True, "compressionargs": {"level": 4}},
    "lzw": {"compression": "lzw", "predictor": True},
    "jpeg": {"compression": "jpeg", "compressionargs": {"level": 90}},
    "none": {},
}


def write_pyramid(
    path: str | Path,
    shape: tuple[int, ...],
    rows: Iterable[np.ndarray],
    *,
    mpp: float | None,
    tile: int = 512,
    ome: bool = True,
    compression: Compression = "zlib",
    levels: int | None = None,
) -> int:
    """Write a tiled pyramidal TIFF of uint8 grey or RGB, each level the 2 x 2 mean of the one before.

    Memory holds a strip of ``tile`` rows and one strip of ``rows``; the coarser levels are kept in temporary files
    beside ``path`` (a third of the uncompressed image). An odd side is rounded up. The file is written under a
    temporary name and renamed: a failure leaves an existing file unchanged.

    Args:
        shape: (height, width), or (height, width, 3) for RGB.
        rows: strips of any height, from top to bottom: (h, width) or (h, width, 3) uint8.
        mpp: um/px of level 0, or None.
        tile: side of the tiles, a multiple of 16; raising it makes the file smaller and each small read slower. 256 to
            1024.
        ome: write OME-TIFF, the levels as SubIFDs (QuPath, Bio-Formats, tifffile); otherwise a generic pyramid, whose
            levels OpenSlide reads too. Both have the resolution tags.
        compression: see `Compression`.
        levels: number of levels, level 0 included; None adds levels until the image fits into one tile.

    Returns:
        The number of levels.

    Raises:
        CvmError: an invalid shape, strips that do not fill it, or a tunable out of its range.
    """
    path = Path(path)
    sizes = _sizes(shape, tile, levels)
    if compression not in get_args(Compression):
        raise CvmError(f"compression must be one of {', '.join(get_args(Compression))}, got {compression!r}")
    if mpp is not None and not 0 < mpp < float("inf"):
        raise CvmError(f"mpp must be a positive number of um/px, got {mpp!r}")
    with replacing(path) as aside:
        _write(aside, sizes, tuple(shape[2:]), rows, mpp=mpp, tile=tile, ome=ome, compression=compression)
    return len(sizes)


def halve(pixels: np.ndarray) -> np.ndarray:
    """Compute 2 x 2 means of (H, W) or (H, W, 3) uint8, rounded half up; an odd last row or column is repeated."""
    for axis in (0, 1):
        if pixels.shape[axis] % 2:
            pixels = np.concatenate([pixels, pixels.take([-1], axis)], axis)
    sums = pixels[0::2].astype(np.uint16)
    sums += pixels[1::2]
    pairs = sums[:, 0::2] + sums[:, 1::2]
    pairs += 2
    pairs >>= 2
    return pairs.astype(np.uint8)


def _sizes(shape: tuple[int, ...], tile: int, levels: int | None) -> list[tuple[int, int]]:
    """Check the shape, and compute (height, width) of each level."""
    if len(shape) not in (2, 3) or min(shape) < 1 or tuple(shape[2:]) not in ((), (3,)):
        raise CvmError(f"shape must be (height, width) or (height, width, 3), got {shape}")
    if tile < 16 or tile % 16:
        raise CvmError(f"tile must be a multiple of 16, got {tile}")
    if levels is not None and levels < 1:
        raise CvmError(f"levels must be at least 1, got {levels}")
    sizes = [(shape[0], shape[1])]
    while max(sizes[-1]) > (tile if levels is None else 1) and (levels is None or len(sizes) < levels):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _write(
    aside: Path,
    sizes: list[tuple[int, int]],
    samples: tuple[int, ...],
    rows: Iterable[np.ndarray],
    *,
    mpp: float | None,
    tile: int,
    ome: bool,
    compression: Compression,
) -> None:
    """Write level after level; each writes its halved rows to a temporary file for the next."""
    options: dict[str, Any] = {
        **_OPTIONS[compression],
        "tile": (tile, tile),
        "dtype": np.uint8,
        "photometric": "rgb" if samples else "minisblack",
    }
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    total = sum(height * width for height, width in sizes) * (3 if samples else 1)
    with ExitStack() as stack:
        writer = stack.enter_context(tifffile.TiffWriter(aside, ome=ome, bigtiff=total > BIG_BYTES))
        for number, size in enumerate(sizes):
            last = number + 1 == len(sizes)
            lower = None if last else stack.enter_context(nameless_file(aside.parent))
            extra: dict[str, Any] = {"metadata": _ome(samples, mpp) if ome and number == 0 else None}
            if number:
                extra["subfiletype"] = 1
            elif ome:
                extra["subifds"] = len(sizes) - 1
            tiles = _tiles(_strips(rows, (*size, *samples), tile), tile, lower)
            writer.write(tiles, shape=(*size, *samples), **options, **extra)
            if lower is not None:
                height, width = sizes[number + 1]
                rows = _spooled(lower, (tile, width, *samples), height)


def _ome(samples: tuple[int, ...], mpp: float | None) -> dict[str, Any]:
    """Make the OME metadata of level 0."""
    metadata: dict[str, Any] = {"axes": "YXS" if samples else "YX"}
    if mpp is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": mpp, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _strips(rows: Iterable[np.ndarray], shape: tuple[int, ...], height: int) -> Iterator[np.ndarray]:
    """Regroup strips of any height to strips of one height (the last may be lower)."""
    held: list[np.ndarray] = []
    seen = ready = 0
    for strip in rows:
        if strip.dtype != np.uint8 or strip.shape[1:] != shape[1:]:
            wanted = ", ".join(map(str, shape[1:]))
            raise CvmError(f"the strips must be (h, {wanted}) uint8, got {strip.shape} {strip.dtype}")
        seen += len(strip)
        if seen > shape[0]:
            raise CvmError(f"the strips have more than {shape[0]} rows")
        held.append(strip)
        ready += len(strip)
        if ready >= height:
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            whole = ready // height * height
            yield from (joined[start : start + height] for start in range(0, whole, height))
            held, ready = [joined[whole:].copy()], ready - whole
    if seen < shape[0]:
        raise CvmError(f"the strips have {seen} of {shape[0]} rows")
    if ready:
        yield np.concatenate(held)


def _tiles(strips: Iterable[np.ndarray], tile: int, lower: IO[bytes] | None) -> Iterator[np.ndarray]:
    """Yield the tiles of each strip, padded by repeating its border; writes the halved strip to ``lower``."""
    for strip in strips:
        if lower is not None:
            lower.write(halve(strip).tobytes())
        height, width = strip.shape[:2]
        margin = [(0, tile - height), (0, -width % tile), *[(0, 0)] * (strip.ndim - 2)]
        padded = np.pad(strip, margin, mode="edge") if height < tile or width % tile else strip
        for left in range(0, width, tile):
            yield np.ascontiguousarray(padded[:, left : left + tile])


def _spooled(spool: IO[bytes], shape: tuple[int, ...], height: int) -> Iterator[np.ndarray]:
    """Yield strips of a temporary file, from its beginning."""
    spool.seek(0)
    row = int(np.prod(shape[1:]))
    for start in range(0, height, shape[0]):
        count = min(shape[0], height - start)
        yield np.frombuffer(spool.read(count * row), np.uint8).reshape(count, *shape[1:])
