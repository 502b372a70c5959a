"""Read TIFFs by tiles or strips: OME-TIFF with SubIFDs, flat TIFFs, and others of which OpenSlide reads less."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvm_monai.annotations.stored import largest_series
from cvm_monai.errors import CvmError
from cvm_monai.slides.image import (
    MAX_PIXELS,
    brightest_bits,
    brightness,
    colour_samples,
    declared_bits,
    rgb_of_samples,
    together,
)
from cvm_monai.slides.source import Bounds
from cvm_monai.slides.tiff_metadata import colour_planes, ome_pixels, tiff_mpp

CACHE_BYTES = 2**26
"""Bytes of the cache of decoded tiles of an opened file: 64 MiB, 85 tiles of 512 x 512 RGB."""

LOOKED_AT = 1024
"""Number of evenly spread tiles or strips of the coarsest level from which the depth of 16-bit values is estimated."""

RAW_BYTES = 2**20
"""Bytes of the pieces in which an uncompressed strip is read: many programs write the whole image as one strip."""

_PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_JPEGS = (6, 7, 34892, 33007)


@dataclass(frozen=True)
class Segments:
    """The layout of the tiles or strips of one level, and their decoder.

    Attributes:
        size: (height, width) of the level.
        step: (height, width) of one segment; those at the far border may be smaller.
        offsets, counts: byte ranges in the file, row by row, plane after plane; a count of 0 is a white tile.
        planes: 1, or the number of samples where they are stored as separate planes.
        decode: (bytes, index) -> (height, width, samples).
        photometric: the page's photometric interpretation.
        extra: types of its extra samples.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    offsets: Sequence[int]
    counts: Sequence[int]
    planes: int
    decode: Callable[[bytes, int], np.ndarray]
    photometric: int
    extra: Sequence[int] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of segments."""
        return -(-self.size[0] // self.step[0]), -(-self.size[1] // self.step[1])


class TiffSource:
    """A TIFF of 8 or 16 bits, grey or RGB; a read decodes only the tiles or strips that it intersects.

    If a file has several pictures the largest is read. Attribute `plain`: 8 bits and no extra samples, so that every
    reader gives the same picture.

    Raises:
        CvmError: pixels of another type; channels that are not declared as red, green and blue; a tile or strip too
            large to hold.
    """

    forks = False
    bounds: Bounds | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with tifffile.TiffFile(path) as tiff:
            series = largest_series(tiff)
            page = series.keyframe
            described = ome_pixels(tiff, (page.imagelength, page.imagewidth))
            planes, pages = colour_planes(tiff, series, described)
            self._pages = pages // planes
            self.mpp = tiff_mpp(page, described)
            self._levels = [_level(level, planes) for level in series.levels]
            self.plain = page.dtype == np.uint8 and not page.extrasamples and planes == 1
            self._bits = 16 if page.dtype == np.uint8 else declared_bits(page, described)
        self.sizes = [level.size for level in self._levels]
        self._cache = ByteCache(CACHE_BYTES)
        self._lock = threading.Lock()
        self._file = path.open("rb")

    @cached_property
    def depth(self) -> tuple[int, tuple[str, ...]]:
        """Number of bits that 16-bit values use, and a warning where it is estimated from the values."""
        if self._bits is not None:
            return self._bits, ()
        level = self._levels[-1]
        rows, columns = level.grid
        found = brightness(np.empty(0, np.uint16))
        looked_at = np.linspace(0, rows * columns - 1, min(rows * columns, LOOKED_AT)).astype(int)
        for place in np.unique(looked_at).tolist():
            try:
                samples = self._samples(level, *divmod(place, columns))
            except Exception:  # a damaged tile is reported when it is read
                continue
            if samples is not None:
                found = together(found, brightness(samples[..., : samples.shape[-1] - len(level.extra)]))
        return brightest_bits(self.path, found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about how the file is read."""
        if self._pages == 1:
            return self.depth[1]
        return (*self.depth[1], f"{self.path}: it has {self._pages} pages of one size; the first one is read")

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
        """Return one tile or strip as (h, w, 3) uint8 RGB."""
        key = level, row, column
        held = self._cache.get(key)
        if held is None:
            held = self._decode(self._levels[level], row, column)
            self._cache.put(key, held)
        return held

    def _decode(self, segments: Segments, row: int, column: int) -> np.ndarray:
        samples = self._samples(segments, row, column)
        if samples is None:
            return np.full((*segments.step, 3), 255, dtype=np.uint8)
        bits = 16 if samples.dtype == np.uint8 else self.depth[0]
        return rgb_of_samples(samples, segments.photometric, extra=segments.extra, bits=bits)

    def _samples(self, segments: Segments, row: int, column: int) -> np.ndarray | None:
        """Decode one tile or strip to (h, w, samples) as stored; None for a tile without bytes."""
        rows, columns = segments.grid
        planes = []
        for plane in range(segments.planes):
            index = (plane * rows + row) * columns + column
            if segments.counts[index] == 0:
                return None
            planes.append(segments.decode(self._bytes(segments.offsets[index], segments.counts[index]), index))
        samples = planes[0] if segments.planes == 1 else np.concatenate(planes, axis=-1)
        needed = tuple(min(s, n - i * s) for s, n, i in zip(segments.step, segments.size, (row, column), strict=True))
        if any(have < need for have, need in zip(samples.shape, needed, strict=False)):
            raise CvmError(f"a tile has {samples.shape[1]} x {samples.shape[0]} px, too few")
        return samples

    def _bytes(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise CvmError("the file ends too early")
        return data


def _level(level: tifffile.TiffPageSeries, planes: int) -> Segments:
    """Make the layout of a level from its first page, or from three pages as red, green and blue."""
    segments = [_segments(level.pages[index], level.keyframe) for index in range(planes)]
    if planes == 1:
        return segments[0]
    first, each = segments[0], len(segments[0].offsets)
    if any((one.size, one.step, len(one.offsets)) != (first.size, first.step, each) for one in segments):
        raise CvmError("its red, green and blue pages are stored in different ways; save it as RGB")

    def decode(data: bytes, index: int) -> np.ndarray:
        return segments[index // each].decode(data, index % each)

    offsets = [offset for one in segments for offset in one.offsets]
    counts = [count for one in segments for count in one.counts]
    return Segments(first.size, first.step, offsets, counts, planes, decode, int(tifffile.PHOTOMETRIC.RGB))


def _segments(page: Any, keyframe: tifffile.TiffPage) -> Segments:
    """Make the layout of a page (or of a frame, whose tags are its keyframe's)."""
    _check(keyframe)
    size = keyframe.imagelength, keyframe.imagewidth
    apart = keyframe.planarconfig == 2 and keyframe.samplesperpixel > 1
    planes = keyframe.samplesperpixel if apart else 1
    photometric, extra = int(keyframe.photometric), tuple(map(int, keyframe.extrasamples))
    whole = keyframe.bitspersample == 8 * np.dtype(keyframe.dtype).itemsize
    if keyframe.compression == 1 and not keyframe.is_tiled and planes == 1 and keyframe.predictor == 1 and whole:
        return _raw_strips(page, keyframe, size, photometric, extra)
    step = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, size[1])
    step = (min(step[0], size[0]) if not keyframe.is_tiled else step[0], step[1])
    if step[0] * step[1] > MAX_PIXELS:
        raise CvmError(f"a tile or strip of {step[1]} x {step[0]} px is too large to hold; save it with tiles")
    tables = {}
    if keyframe.compression in _JPEGS:
        tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    decode_page = keyframe.decode

    def decode(data: bytes, index: int) -> np.ndarray:
        return np.asarray(decode_page(data, index, **tables)[0])[0]

    return Segments(size, step, page.dataoffsets, page.databytecounts, planes, decode, photometric, extra)


def _raw_strips(
    page: Any, keyframe: tifffile.TiffPage, size: tuple[int, int], photometric: int, extra: tuple[int, ...]
) -> Segments:
    """Make a layout of uncompressed strips split into pieces of about a mebibyte, which do not cross strips."""
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

    return Segments(size, (step, size[1]), offsets, counts, 1, decode, photometric, extra)


def _check(page: tifffile.TiffPage) -> None:
    """Refuse pixels that `rgb_of_samples` or tifffile's decoders cannot take."""
    if page.photometric in _PLAIN:
        colour_samples(page.photometric, page.samplesperpixel, page.extrasamples)
    jpeg = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression in _JPEGS
    if page.dtype not in (np.uint8, np.uint16):
        raise CvmError(f"its pixels are {page.dtype}; save it as RGB with 8 bits per channel")
    if not (page.photometric in _PLAIN or jpeg):
        kind = getattr(page.photometric, "name", page.photometric)
        raise CvmError(f"its colours are stored as {kind}; save it as RGB with 8 bits per channel")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise CvmError(f"its compression {page.compression} is unknown; save it as JPEG, LZW or deflate")
    if page.imagedepth > 1:
        raise CvmError(f"it has {page.imagedepth} planes; save the one that is meant as RGB")


class ByteCache:
    """Keeps the most recently used arrays, up to a total number of bytes; a larger array is kept alone.

    Args:
        limit: bytes; raising it saves decoding where reads overlap, until the tiles of one row of reads fit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return the array, or None where it is not cached."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Add an array, and drop the least recently used ones."""
        with self._lock:
            if key in self._arrays:
                return
            self._arrays[key] = array
            self.held += array.nbytes
            while self.held > self.limit and len(self._arrays) > 1:
                _, oldest = self._arrays.popitem(last=False)
                self.held -= oldest.nbytes
