"""An opened image or slide: read regions at any um/px, from any reader, in the coordinates of either origin."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.knobs import Origin
from cvm_monai.slides.image import error_reason
from cvm_monai.slides.resample import Axis, plan_axis, resample
from cvm_monai.slides.resolution import Level, Mpp, best_level, decide_mpp, make_levels, pyramid_sizes, require_mpp
from cvm_monai.slides.source import Bounds, Source

BLOCK_PIXELS = 2**23
"""Level pixels decoded together; a larger read is split (2^23 pixels are 24 MiB of RGB, 96 MiB of float32)."""


class SlideImage:
    """An image that can be read at any position and scale; `open_image` makes one. A context manager.

    Threads may share it. It can be pickled (only path and um/px; unpickling opens the file again) and used after a fork
    (the child process opens the file again). Label and macro images of a slide cannot be read.

    Attributes:
        path: the file.
        shape: (height, width) of level 0.
        levels: levels of the pyramid, the finest first.
        mpp: um/px of level 0 and its source.
        bounds: the scanned part of level 0, where the file states one smaller than level 0 (as MRXS does).
        warnings: messages for the user about the um/px, about the choice of pages and bits, and about the origin of
            coordinates in other programs.
    """

    path: Path
    shape: tuple[int, int]
    levels: tuple[Level, ...]
    mpp: Mpp
    bounds: Bounds | None
    warnings: tuple[str, ...]

    def __init__(self, path: Path, opener: Callable[[Path], Source], *, mpp: float | None = None) -> None:
        self.path = path
        self._opener = opener
        self._user_mpp = mpp
        self._closed = False
        self._abandoned: list[Source] = []  # sources of a parent process: closing them could block on its locks
        self._source: Source | None = opener(path)
        self._pid = os.getpid()
        height, width = self._source.sizes[0]
        if not height * width:
            self.close()
            raise CvmError(f"{path} cannot be read as an image: it has no pixels ({width} x {height})")
        self._indices = pyramid_sizes(self._source.sizes)
        self.levels = make_levels([self._source.sizes[index] for index in self._indices])
        self.shape = (self.levels[0].height, self.levels[0].width)
        try:
            self.mpp, warnings = decide_mpp(path, self._source.mpp, mpp)
        except ValueError:
            self.close()
            raise
        self.bounds = self._source.bounds
        warnings = (*self._source.warnings, *warnings)
        self.warnings = warnings if self.bounds is None else (*warnings, crop_warning(path, self.bounds))

    @property
    def level_mpp(self) -> tuple[float | None, ...]:
        """um/px of each level, None where unknown."""
        value = self.mpp.value
        return tuple(None if value is None else value * level.downsample for level in self.levels)

    def read(self, origin: tuple[float, float], *, shape: tuple[int, int], mpp: float | None = None) -> np.ndarray:
        """Read pixels at exactly ``mpp`` um/px, from the coarsest level that is not coarser.

        Shrinking averages over areas, enlarging interpolates; both are exact to fractions of a pixel. Beyond the border
        is white.

        Args:
            origin: (x, y) of the upper left corner in level-0 pixels; may be fractional, negative or beyond the border.
            shape: (height, width) of the result.
            mpp: um/px of the result; None = that of level 0.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            CvmError: ``mpp`` for an image without um/px, a region that cannot be decoded, or a closed image.
        """
        if mpp is None:
            return self.read_scaled(origin, shape=shape)
        if not (math.isfinite(mpp) and mpp > 0):
            raise CvmError(f"mpp must be a positive number of um/px, got {mpp!r}")
        scale = mpp / require_mpp(self)
        return self.read_scaled(origin, shape=shape, scale=(scale, scale))

    def read_scaled(
        self, origin: tuple[float, float], *, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> np.ndarray:
        """Read as `read`, with (y, x) level-0 pixels per output pixel: for images of unknown um/px."""
        (x, y), (height, width) = origin, shape
        if height < 0 or width < 0 or min(scale) <= 0 or not all(map(math.isfinite, (*origin, *scale))):
            raise CvmError(f"cannot read {width} x {height} px at ({x}, {y}) with scale {scale}")
        index = best_level(self.levels, min(scale))
        level = self.levels[index]
        rows, columns = (
            plan_axis(
                start / level.downsample, step / level.downsample, count, pixels=pixels, extent=min(pixels + 1, extent)
            )
            for start, step, count, pixels, extent in (
                (y, scale[0], height, level.height, self.shape[0] / level.downsample),
                (x, scale[1], width, level.width, self.shape[1] / level.downsample),
            )
        )
        if rows.length * columns.length <= BLOCK_PIXELS or height * width <= 1:
            return resample(self._block(index, rows, columns), rows, columns)
        return self._halves(origin, shape, scale)

    def _halves(self, origin: tuple[float, float], shape: tuple[int, int], scale: tuple[float, float]) -> np.ndarray:
        """Split a read that is too large for one block in two, by rows first, so that strips are decoded once."""
        (x, y), (height, width) = origin, shape
        result = np.empty((height, width, 3), dtype=np.uint8)
        if height > 1:
            top = height // 2
            result[:top] = self.read_scaled(origin, shape=(top, width), scale=scale)
            below = (x, y + top * scale[0])
            result[top:] = self.read_scaled(below, shape=(height - top, width), scale=scale)
        else:
            left = width // 2
            result[:, :left] = self.read_scaled(origin, shape=(1, left), scale=scale)
            beside = (x + left * scale[1], y)
            result[:, left:] = self.read_scaled(beside, shape=(1, width - left), scale=scale)
        return result

    def thumbnail(self, max_size: int) -> np.ndarray:
        """Read the whole image, (height, width, 3) uint8, its longer side at most ``max_size`` px; never enlarged."""
        if max_size < 1:
            raise CvmError(f"max_size must be at least 1 px, got {max_size}")
        factor = max(1.0, max(self.shape) / max_size)
        height, width = (max(1, round(side / factor)) for side in self.shape)
        return self.read_scaled((0, 0), shape=(height, width), scale=(self.shape[0] / height, self.shape[1] / width))

    def _block(self, index: int, rows: Axis, columns: Axis) -> np.ndarray:
        """Read the level pixels that two planned axes need."""
        if rows.length == 0 or columns.length == 0:
            return np.zeros((0, 0, 3), dtype=np.uint8)
        source = self._live()
        area = (columns.first, rows.first, columns.length, rows.length)
        try:
            return source.read(self._indices[index], *area)
        except Exception as error:  # decoders raise many types
            if str(error).startswith(str(self.path)):
                raise
            self._source = None  # OpenSlide repeats its first error forever: the next read opens the file again
            factor = self.levels[index].downsample
            x, y, width, height = (round(value * factor) for value in area)
            raise CvmError(
                f"{self.path} cannot be read at ({x}, {y}), {width} x {height} level-0 px: "
                f"{error_reason(error)}; the file may be damaged: export it again"
            ) from None

    def _live(self) -> Source:
        """Return this process's source; opens the file after a fork or an error."""
        if self._closed:
            raise CvmError(f"{self.path} is closed")
        if self._source is not None and self._pid != os.getpid() and not self._source.forks:
            self._abandoned.append(self._source)
            self._source = None
        if self._source is None:
            self._source = self._opener(self.path)
        self._pid = os.getpid()
        return self._source

    def close(self) -> None:
        """Close the file; reading afterwards is refused."""
        self._closed = True
        if self._source is not None and (self._pid == os.getpid() or self._source.forks):
            self._source.close()
            self._source = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (self.path, self._opener, self._user_mpp)

    def __repr__(self) -> str:
        value = "unknown" if self.mpp.value is None else f"{self.mpp.value:g}"
        return f"SlideImage({str(self.path)!r}, {self.shape[1]} x {self.shape[0]} px, {value} um/px)"


def _opened_again(path: Path, opener: Callable[[Path], Source], mpp: float | None) -> SlideImage:
    """Open an image again when it is unpickled."""
    return SlideImage(path, opener, mpp=mpp)


def corner(image: SlideImage, origin: Origin) -> tuple[int, int]:
    """Return the origin of coordinates, (x, y) in level-0 pixels.

    Raises:
        CvmError: an unknown origin.
    """
    if origin not in get_args(Origin):
        raise CvmError(f"--origin must be one of {', '.join(get_args(Origin))}, got {origin!r}")
    if origin == "level0" or image.bounds is None:
        return (0, 0)
    return (image.bounds.x, image.bounds.y)


def warnings_of(image: SlideImage, origin: Origin) -> tuple[str, ...]:
    """Return the image's warnings, and a note if the origin of coordinates is the scanned part."""
    if origin == "level0" or image.bounds is None:
        return image.warnings
    others = tuple(sentence for sentence in image.warnings if sentence != crop_warning(image.path, image.bounds))
    x, y = corner(image, origin)
    return (
        *others,
        f"{image.path}: coordinates count from ({x}, {y}), the corner of the part that was scanned, as QuPath's do",
    )


def crop_warning(path: Path, bounds: Bounds) -> str:
    """Make the warning that QuPath counts coordinates from the scanned part."""
    return (
        f"{path}: the {bounds.width} x {bounds.height} px at ({bounds.x}, {bounds.y}) were scanned, and QuPath counts "
        "coordinates from there; here they count from the corner of all: give --origin bounds where the command has "
        "it, or open the slide in QuPath with --no-crop"
    )
