"""Resample pixels of one pyramid level to the requested grid, by averaging or interpolation.

Pixel i of a level covers [i, i + 1); output pixel j covers [start + j scale, start + (j + 1) scale) in level pixels.

- scale >= 1 (shrinking): the mean over the covered area, each level pixel weighted by its covered fraction; where
  pixels are covered unevenly the weights are corrected so that their centroid is the output pixel's centre, and a
  linear ramp is preserved.
- scale < 1 (enlarging): linear interpolation between the two nearest pixel centres, the nearest pixel at the border.

Beyond the image is white: an output pixel across the border is mixed with white by its fraction outside.
"""

from dataclasses import dataclass

import numpy as np

SNAP = 1e-4
"""Grids that deviate from the level's by less than this (in level pixels, over the whole output) are copied."""


@dataclass(frozen=True)
class Axis:
    """How the output pixels of one axis are computed from level pixels ``first`` to ``first + length - 1``.

    Attributes:
        first, length: the level pixels that are needed; length 0 where the output lies outside the image.
        taps: (count, K) positions relative to ``first``.
        weights: (count, K) float32; each row sums to 1, or to 0 outside.
        inside: (count,) the fraction of each output pixel that lies in the image.
        copied: whether every output pixel is exactly one level pixel, or outside.
    """

    first: int
    length: int
    taps: np.ndarray
    weights: np.ndarray
    inside: np.ndarray
    copied: bool


def plan_axis(start: float, scale: float, count: int, *, pixels: int, extent: float) -> Axis:
    """Compute the level pixels and weights for the output pixels of one axis.

    Args:
        start: start of the output, in level pixels.
        scale: level pixels per output pixel, above 0.
        count: number of output pixels.
        pixels: length of the level.
        extent: length of the image in level pixels; slightly less than ``pixels`` where the last pixel is partial,
            slightly more where the level omits a partial last pixel.
    """
    if abs(scale - 1) * count < SNAP:
        scale = 1.0
    if abs(start - round(start)) < SNAP:
        start = round(start)
    low = start + np.arange(count) * scale
    high = low + scale
    inside = (np.clip(high, 0, extent) - np.clip(low, 0, extent)) / scale
    taps, weights = _area(low, high, pixels) if scale >= 1 else _linear(low + scale / 2, pixels)
    beyond = (inside > 0) & (weights.sum(1) <= 0)  # in the part that the level omits: its last pixel is the nearest
    taps[beyond, 0], weights[beyond, 0] = pixels - 1, 1
    used = (weights > 1e-7) & (inside > 0)[:, None]
    if not used.any():
        return Axis(0, 0, taps * 0, weights * 0, inside * 0, True)
    first, last = taps[used].min(), taps[used].max()
    weights = np.where(used, weights, 0)
    weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    copied = scale == 1 and float(start).is_integer()
    return Axis(int(first), int(last - first + 1), np.clip(taps - first, 0, last - first), weights, inside, copied)


def _area(low: np.ndarray, high: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and covered lengths of the pixels that [low, high) intersects."""
    cut = (low < 0) | (high > pixels)
    centres = (low + high) / 2
    low, high = np.clip(low, 0, pixels), np.clip(high, 0, pixels)
    begin = np.floor(low).astype(np.int64)
    width = int((np.ceil(high).astype(np.int64) - begin).max(initial=1))
    taps = begin[:, None] + np.arange(max(width, 1))
    covered = np.minimum(taps + 1, high[:, None]) - np.maximum(taps, low[:, None])
    weights = np.where(taps < pixels, np.maximum(covered, 0), 0)
    return np.minimum(taps, pixels - 1), np.where(cut[:, None], weights, _centred(weights, taps + 0.5, centres))


def _centred(weights: np.ndarray, positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Correct the weights linearly in the position so that their centroid is the centre; their sum is unchanged."""
    total = np.maximum(weights.sum(1, keepdims=True), 1e-12)
    away = positions - (weights * positions).sum(1, keepdims=True) / total
    spread = np.maximum((weights * away**2).sum(1, keepdims=True) / total, 1e-12)
    mean = positions[:, :1] - away[:, :1]
    return np.maximum(weights * (1 + (centres[:, None] - mean) / spread * away), 0)


def _linear(centres: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two pixels whose centres are nearest, and their weights."""
    position = np.clip(centres - 0.5, 0, pixels - 1)
    below = np.floor(position).astype(np.int64)
    part = position - below
    return np.stack([below, np.minimum(below + 1, pixels - 1)], 1), np.stack([1 - part, part], 1)


def resample(block: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Resample a block (rows.length, columns.length, 3) uint8 of level pixels to the two axes' output pixels, uint8."""
    if rows.copied and columns.copied:
        result = np.full((len(rows.inside), len(columns.inside), 3), 255, dtype=np.uint8)
        if block.size:
            result[_whole(rows), _whole(columns)] = block
        return result
    if not block.size:
        return np.full((len(rows.inside), len(columns.inside), 3), 255, dtype=np.uint8)
    values = _apply(rows, block.astype(np.float32).reshape(rows.length, -1))
    values = values.reshape(-1, columns.length, 3).transpose(1, 0, 2).reshape(columns.length, -1)
    values = _apply(columns, values).reshape(len(columns.inside), -1, 3).transpose(1, 0, 2)
    inside = rows.inside[:, None] * columns.inside
    if inside.min() < 1:
        values = 255 + (values - 255) * inside[..., None].astype(np.float32)
    return np.rint(values).astype(np.uint8)


def _whole(axis: Axis) -> slice:
    """Return the output pixels inside the image of a copied axis."""
    begin = int(np.argmax(axis.inside > 0))
    return slice(begin, begin + axis.length)


def _apply(axis: Axis, values: np.ndarray) -> np.ndarray:
    """Compute (count, M) weighted sums of the rows of (length, M)."""
    from scipy.sparse import csr_array

    count, width = axis.taps.shape
    pointers = np.arange(0, count * width + 1, width)
    weights = axis.weights.astype(np.float32).ravel()
    matrix = csr_array((weights, axis.taps.ravel(), pointers), shape=(count, axis.length))
    matrix.sum_duplicates()
    return matrix @ values
