"""The interface of a file reader that `SlideImage` uses."""

from pathlib import Path
from typing import Protocol

import numpy as np

from cvm_monai.annotations.stored import png_header
from cvm_monai.slides.bounds import Bounds
from cvm_monai.slides.image import decode_flat, flat_size


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
