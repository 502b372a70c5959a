"""Deep Zoom tiles and thumbnails of images as JPEG: only what a tile covers is decoded, and the last ones are kept."""

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cvm_monai.errors import CvmError
from cvm_monai.slides import SlideImage

TILE = 256
"""Side of a tile in px."""

THUMBNAIL = 256
"""Longer side of a thumbnail in px."""

QUALITY = 85
"""Of JPEG; raising it keeps more detail in larger tiles."""

KEPT = 64 * 2**20
"""Bytes of encoded tiles that are kept."""


@dataclass(frozen=True)
class Zoom:
    """The levels of an image of (height, width): level `max_level` has its pixels, each one below half of them."""

    height: int
    width: int

    @property
    def max_level(self) -> int:
        """The number of the finest level."""
        return max(0, math.ceil(math.log2(max(self.height, self.width))))

    def size(self, level: int) -> tuple[int, int]:
        """Return (height, width) of a level."""
        step = 2 ** (self.max_level - level)
        return -(-self.height // step), -(-self.width // step)

    def has(self, level: int, column: int, row: int) -> bool:
        """Whether there is such a tile."""
        if not 0 <= level <= self.max_level or column < 0 or row < 0:
            return False
        height, width = self.size(level)
        return row * TILE < height and column * TILE < width


def read_tile(image: SlideImage, level: int, column: int, row: int) -> np.ndarray:
    """Read one tile, (h, w, 3) uint8; those at the far border are smaller.

    Raises:
        CvmError: no such tile, or a part of the image that cannot be decoded.
    """
    zoom = Zoom(*image.shape)
    if not zoom.has(level, column, row):
        raise CvmError(f"there is no tile {column}_{row} in level {level} of {zoom.width} x {zoom.height} px")
    height, width = zoom.size(level)
    y, x = row * TILE, column * TILE
    step = 2 ** (zoom.max_level - level)
    shape = (min(TILE, height - y), min(TILE, width - x))
    return image.read_scaled((x * step, y * step), shape=shape, scale=(step, step))


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode (h, w, 3) uint8 as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


class EncodedTiles:
    """Keeps the encoded tiles and thumbnails used last. Threads may share it."""

    def __init__(self, limit: int = KEPT) -> None:
        self.limit, self.held = limit, 0
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> bytes:
        """Return the JPEG of a key, made where it is not kept."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        made = jpeg(make())
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = made
                self.held += len(made)
            while self.held > self.limit and len(self._tiles) > 1:
                self.held -= len(self._tiles.popitem(last=False)[1])
        return made
