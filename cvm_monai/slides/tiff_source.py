"""TIFFs by their tiles or strips: OME-TIFF with SubIFDs, flat TIFFs, and what else OpenSlide sees less of."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvm_monai.slides.bounds import Bounds
from cvm_monai.slides.byte_cache import ByteCache
from cvm_monai.slides.image import MAX_PIXELS, rgb_of_samples
from cvm_monai.slides.tiff_mpp import tiff_mpp

CACHE_BYTES = 2**26
"""Decoded tiles that an opened file holds: 64 MiB, 85 tiles of 512 x 512 RGB."""

RAW_BYTES = 2**20
"""An uncompressed strip is read in pieces of about so many bytes: many programs write one strip for all."""

_PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_JPEGS = (6, 7, 34892, 33007)


@dataclass(frozen=True)
class Segments:
    """Where the tiles or strips of one level lie, and how they are decoded.

    Attributes:
        size: (height, width) of the level.
        step: (height, width) of one segment; those at the far border may be cut.
        offsets, counts: of the bytes in the file, row by row, plane after plane; a count of 0 is a white tile.
        planes: 1, or the number of samples where each is stored apart.
        decode: (bytes, index) -> (height, width, samples).
        photometric: of the page.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    offsets: Sequence[int]
    counts: Sequence[int]
    planes: int
    decode: Callable[[bytes, int], np.ndarray]
    photometric: int

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of segments."""
        return -(-self.size[0] // self.step[0]), -(-self.size[1] // self.step[1])


class SeparateChannelsError(ValueError):
    """A file of which other readers would show one channel as if it were the picture."""


class TiffSource:
    """A TIFF of 8 or 16 bits, grey or RGB, of which only the tiles or strips that a read touches are decoded.

    Raises:
        ValueError: pixels of another kind; channels stored as separate pages; a tile or strip too large to hold.
    """

    forks = False
    bounds: Bounds | None = None

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            if dict(zip(series.axes, series.shape, strict=True)).get("C", 1) > 1:
                raise SeparateChannelsError("its channels are separate pages (fluorescence?); save it as RGB")
            self.mpp = tiff_mpp(tiff)
            self._levels = [_segments(level.pages[0], level.keyframe) for level in series.levels]
        self.sizes = [level.size for level in self._levels]
        self._cache = ByteCache(CACHE_BYTES)
        self._lock = threading.Lock()
        self._file = path.open("rb")

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        step = self._levels[level].step
        result = np.empty((height, width, 3), dtype=np.uint8)
        for row in range(y // step[0], -(-(y + height) // step[0])):
            for column in range(x // step[1], -(-(x + width) // step[1])):
                top, left = row * step[0] - y, column * step[1] - x
                segment = self._segment(level, row, column)
                piece = segment[max(0, -top) : height - top, max(0, -left) : width - left]
                top, left = max(0, top), max(0, left)
                result[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        return result

    def close(self) -> None:
        self._file.close()

    def _segment(self, level: int, row: int, column: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB of one tile or strip."""
        key = level, row, column
        held = self._cache.get(key)
        if held is None:
            held = self._decode(self._levels[level], row, column)
            self._cache.put(key, held)
        return held

    def _decode(self, segments: Segments, row: int, column: int) -> np.ndarray:
        rows, columns = segments.grid
        planes = []
        for plane in range(segments.planes):
            index = (plane * rows + row) * columns + column
            if segments.counts[index] == 0:
                return np.full((*segments.step, 3), 255, dtype=np.uint8)
            planes.append(segments.decode(self._bytes(segments.offsets[index], segments.counts[index]), index))
        samples = planes[0] if segments.planes == 1 else np.concatenate(planes, axis=-1)
        needed = tuple(min(s, n - i * s) for s, n, i in zip(segments.step, segments.size, (row, column), strict=True))
        if any(have < need for have, need in zip(samples.shape, needed, strict=False)):
            raise ValueError(f"a tile has {samples.shape[1]} x {samples.shape[0]} px, too few")
        return rgb_of_samples(samples[..., 0] if samples.shape[-1] == 1 else samples, segments.photometric)

    def _bytes(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise ValueError("the file ends too early")
        return data


def _segments(page: Any, keyframe: tifffile.TiffPage) -> Segments:
    """The layout of a page (or of a frame, whose tags are its keyframe's)."""
    _check(keyframe)
    size = keyframe.imagelength, keyframe.imagewidth
    apart = keyframe.planarconfig == 2 and keyframe.samplesperpixel > 1
    planes = keyframe.samplesperpixel if apart else 1
    photometric = int(keyframe.photometric)
    if keyframe.compression == 1 and not keyframe.is_tiled and planes == 1 and keyframe.predictor == 1:
        return _raw_strips(page, keyframe, size, photometric)
    step = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, size[1])
    step = (min(step[0], size[0]) if not keyframe.is_tiled else step[0], step[1])
    if step[0] * step[1] > MAX_PIXELS:
        raise ValueError(f"a tile or strip of {step[1]} x {step[0]} px is too large to hold; save it with tiles")
    extra = {}
    if keyframe.compression in _JPEGS:
        extra = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    decode_page = keyframe.decode

    def decode(data: bytes, index: int) -> np.ndarray:
        return np.asarray(decode_page(data, index, **extra)[0])[0]

    return Segments(size, step, page.dataoffsets, page.databytecounts, planes, decode, photometric)


def _raw_strips(page: Any, keyframe: tifffile.TiffPage, size: tuple[int, int], photometric: int) -> Segments:
    """Uncompressed strips cut into pieces of about a mebibyte, which must not cross a strip."""
    kind = np.dtype(keyframe.dtype)
    dtype = kind.newbyteorder(keyframe.parent.byteorder)
    samples = keyframe.samplesperpixel
    row_bytes = size[1] * samples * dtype.itemsize
    strip = min(keyframe.rowsperstrip, size[0])
    step = next(rows for rows in range(min(strip, max(1, RAW_BYTES // row_bytes)), 0, -1) if strip % rows == 0)
    offsets, counts = [], []
    for row in range(0, size[0], step):
        offset = page.dataoffsets[row // strip]
        offsets.append(offset + row % strip * row_bytes)
        counts.append(min(step, size[0] - row) * row_bytes if offset else 0)

    def decode(data: bytes, index: int) -> np.ndarray:
        del index
        return np.frombuffer(data, dtype).astype(kind, copy=False).reshape(-1, size[1], samples)

    return Segments(size, (step, size[1]), offsets, counts, 1, decode, photometric)


def _check(page: tifffile.TiffPage) -> None:
    """Refuse pixels that `rgb_of_samples` or tifffile's decoders cannot take."""
    jpeg = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression in _JPEGS
    if page.dtype not in (np.uint8, np.uint16) or not (page.photometric in _PLAIN or jpeg):
        raise ValueError(f"its pixels are {page.dtype}, {page.photometric!s}; save it as RGB with 8 bits per channel")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise ValueError(f"its compression {page.compression} is unknown; save it as JPEG, LZW or deflate")
    if page.samplesperpixel > 4 or page.imagedepth > 1:
        raise ValueError(f"it has {page.samplesperpixel} channels; save it as RGB")
