"""Readers of one file: the interface that `SlideImage` uses, flat images, and what OpenSlide reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cvm_monai.annotations.stored import png_header
from cvm_monai.slides.image import decode_flat, flat_size, over_white


@dataclass(frozen=True)
class Bounds:
    """The scanned rectangle of level 0, in level-0 pixels; the area around it is empty."""

    x: int
    y: int
    width: int
    height: int


class Source(Protocol):
    """An opened file. Any thread may read.

    Attributes:
        sizes: (height, width) of each level, the finest first.
        mpp: um/px (x, y) stated by the file, or None.
        forks: whether a child process may use it after a fork.
        bounds: the scanned part of level 0, where the file states one smaller than level 0.
        warnings: messages about how the file is read.
    """

    sizes: list[tuple[int, int]]
    mpp: tuple[float, float] | None
    forks: bool
    bounds: Bounds | None

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read (height, width, 3) uint8 RGB pixels inside a level; transparency is composited on white."""

    def close(self) -> None: ...


class FlatSource:
    """A PNG, JPEG, BMP or an unusual TIFF: decoded as a whole by the first read, then kept in memory.

    The resolution of PNG, JPEG and BMP is that of screens and printers (72 or 96 dpi): it is not read.
    """

    forks = True
    bounds: Bounds | None = None

    def __init__(self, path: Path, *, mpp: tuple[float, float] | None = None) -> None:
        self.path = path
        self.sizes = [flat_size(path)]
        self.mpp = mpp
        self._decoded: tuple[np.ndarray, tuple[str, ...]] | None = None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        del level
        return self._whole()[0][y : y + height, x : x + width]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about how the file is read; a 16-bit PNG is decoded for them."""
        with self.path.open("rb") as file:
            deep = file.read(4) == b"\x89PNG" and png_header(self.path)[0] == 16
        return self._whole()[1] if deep else ()

    def close(self) -> None:
        self._decoded = None

    def _whole(self) -> tuple[np.ndarray, tuple[str, ...]]:
        decoded = self._decoded
        if decoded is None:
            decoded = self._decoded = decode_flat(self.path)
        return decoded


class OpenSlideSource:
    """A slide opened with OpenSlide. Label and macro images are not read.

    OpenSlide takes the corner of a region in whole level-0 pixels: of a level whose downsample is not an integer a
    block may be off by up to half a level-0 pixel (``exact`` is false).
    """

    forks = False
    warnings: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        import openslide

        self._slide = openslide.OpenSlide(path)
        self.vendor: str = self._slide.properties.get("openslide.vendor", "")
        self.sizes = [(height, width) for width, height in self._slide.level_dimensions]
        self.mpp = _mpp(self._slide.properties)
        self.bounds = read_bounds(self._slide.properties, self.sizes[0])
        self._downsamples = self._slide.level_downsamples
        self.exact = all(factor.is_integer() for factor in self._downsamples)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        factor = self._downsamples[level]
        region = self._slide.read_region((round(x * factor), round(y * factor)), level, (width, height))
        rgba = np.asarray(region)
        return over_white(rgba[..., :3], rgba[..., 3:])

    def close(self) -> None:
        self._slide.close()


def read_bounds(properties: Mapping[str, str], size: tuple[int, int]) -> Bounds | None:
    """Read the scanned part from OpenSlide's properties; None where they have none, or where it is all of the slide."""
    try:
        found = Bounds(*(int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")))
    except (KeyError, ValueError):
        return None
    return None if found == Bounds(0, 0, size[1], size[0]) else found


def _mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """Read um/px (x, y) from the properties; None where they are missing."""
    try:
        return float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None
