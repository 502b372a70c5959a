"""A finished map in strips, at the network's um/px, zero outside the tissue."""

from collections.abc import Iterator

import numpy as np

from cvm_monai.inference.whole_slide.grid import TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile

HEIGHT = 256


def strips(
    store: MapFile, tissue: TissueOnGrid, *, stride: int, height: int = HEIGHT
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, (h, channels, W) uint8 probabilities), from top to bottom.

    A coarse map is resized bilinearly: pixel j of a map of stride k lies over network pixels [j k, (j + 1) k).

    Args:
        store: the map.
        tissue: on the grid.
        stride: of the map.
        height: of the strips, except the last.
    """
    full = tissue.grid.shape
    for first in range(0, full[0], height):
        last = min(first + height, full[0])
        values = store.read(first, last) if stride == 1 else _enlarged(store, first, last, full[1], stride)
        yield first, np.where(tissue.rows(first, last)[:, None], values, np.uint8(0))


def foreground(values: np.ndarray) -> np.ndarray:
    """(h, W) uint8 probability of anything but background, of (h, channels, W)."""
    if values.shape[1] == 1:
        return values[:, 0]
    total = values.sum(1, dtype=np.uint16)
    return np.asarray(np.minimum(total, 255).astype(np.uint8))


def labels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, W) uint8 number of the likeliest class, and its probability as uint8; of two classes 1 where p > 0.5.

    Classes whose probabilities round to the same value: the lowest number.
    """
    if values.shape[1] == 1:
        return (values[:, 0] > 127).astype(np.uint8), values[:, 0]
    best = values.argmax(1)
    probability = np.take_along_axis(values, best[:, None], 1)[:, 0]
    background = 255 - values.sum(1, dtype=np.int16)
    return np.where(probability > background, best + 1, 0).astype(np.uint8), probability


def _enlarged(store: MapFile, first: int, last: int, width: int, stride: int) -> np.ndarray:
    """Rows `first` to `last` of a coarse map at the network's um/px."""
    below, part = _taps(np.arange(first, last), stride, store.shape[0])
    low = int(below.min())
    rows = store.read(low, min(int(below.max()) + 2, store.shape[0])).astype(np.float32)
    upper, lower = rows[below - low], rows[np.minimum(below - low + 1, len(rows) - 1)]
    mixed = upper + (lower - upper) * part[:, None, None]
    left, across = _taps(np.arange(width), stride, store.shape[2])
    right = np.minimum(left + 1, store.shape[2] - 1)
    return np.rint(mixed[:, :, left] * (1 - across) + mixed[:, :, right] * across).astype(np.uint8)


def _taps(pixels: np.ndarray, stride: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The coarse pixel whose centre lies at or before that of a fine one, and how far on it is, in [0, 1)."""
    position = np.clip((pixels + 0.5) / stride - 0.5, 0, count - 1)
    below = np.floor(position).astype(np.int64)
    return below, (position - below).astype(np.float32)
