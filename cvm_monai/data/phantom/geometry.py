"""Shapes of the phantom: noise fields, irregular regions placed without touching each other, scattered centres."""

import math

import numpy as np
from scipy import ndimage

__all__ = ["Window", "blob", "dilate", "place", "scatter", "smooth_noise", "stroke"]

Window = tuple[slice, slice]

_HARMONICS = ((2, 0.18), (3, 0.15), (4, 0.11), (5, 0.08), (7, 0.05))
"""Wave number round the outline of a blob and its largest amplitude, relative to the radius."""


def smooth_noise(size: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (size, size) with zero mean and unit variance, correlated over about ``sigma`` pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
    return (noise - noise.mean()) / max(float(noise.std()), 1e-12)


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Every pixel at most ``radius`` (Euclidean, in pixels) from the mask."""
    if not mask.any():
        return mask.copy()
    return ndimage.distance_transform_edt(~mask) <= radius


def _local_grid(size: int, centre: np.ndarray, reach: float) -> tuple[Window, np.ndarray, np.ndarray]:
    """The part of the image within ``reach`` of ``centre``, with the row and column of its pixels from the centre."""
    low = np.clip(np.floor(centre - reach), 0, size).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, size).astype(int)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    rows, columns = np.mgrid[window]
    return window, rows - centre[0], columns - centre[1]


def blob(
    wobble: np.ndarray, centre: np.ndarray, radius: float, rng: np.random.Generator, *, roughness: float = 2.5
) -> tuple[Window, np.ndarray]:
    """An irregular region about ``2 * radius`` pixels across: the window that holds it and its mask there.

    ``wobble`` (size, size) is unit-variance noise that roughens the outline; raising ``roughness`` (0 to 4 pixels)
    makes it more ragged.
    """
    window, rows, columns = _local_grid(wobble.shape[0], centre, 1.5 * radius + 3 * roughness)
    angle = np.arctan2(rows, columns)
    outline = np.ones_like(angle)
    for wave, amplitude in _HARMONICS:
        outline += amplitude * rng.uniform(0.2, 1.0) * np.cos(wave * angle + rng.uniform(0, 2 * math.pi))
    return window, _one_piece(np.hypot(rows, columns) + roughness * wobble[window] < radius * outline)


def stroke(
    wobble: np.ndarray, centre: np.ndarray, length: float, width: float, rng: np.random.Generator
) -> tuple[Window, np.ndarray]:
    """A slightly bent stroke with round ends, ``length`` by ``width`` pixels: its window and its mask there."""
    window, rows, columns = _local_grid(wobble.shape[0], centre, 0.5 * length + width)
    angle = rng.uniform(0, math.pi)
    along = rows * math.sin(angle) + columns * math.cos(angle)
    across = columns * math.sin(angle) - rows * math.cos(angle)
    across = across + rng.uniform(-0.12, 0.12) * along**2 / length * 4
    beyond = np.maximum(np.abs(along) - 0.5 * length, 0)
    return window, _one_piece(np.hypot(across, beyond) + 0.8 * wobble[window] < 0.5 * width)


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of the mask, its holes filled."""
    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return ndimage.binary_fill_holes(mask)


def place(canvas: np.ndarray, occupied: np.ndarray, window: Window, mask: np.ndarray, *, gap: float) -> bool:
    """Adds a region to ``canvas`` where nothing in ``occupied`` lies within ``gap`` pixels; says whether it could.

    Both arrays (size, size) are changed in place, and only when the whole region fits.
    """
    if not mask.any() or (mask & occupied[window]).any():
        return False
    reach = math.ceil(gap)
    rows, columns = window
    around = (
        slice(max(rows.start - reach, 0), rows.stop + reach),
        slice(max(columns.start - reach, 0), columns.stop + reach),
    )
    local = np.zeros_like(occupied[around])
    top, left = rows.start - around[0].start, columns.start - around[1].start
    local[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    canvas[window] |= mask
    occupied[around] |= dilate(local, gap)
    return True


def scatter(region: np.ndarray, spacing: float, rng: np.random.Generator, *, jitter: float = 0.15) -> np.ndarray:
    """Centres (n, 2) that fill ``region`` with no two nearer than about ``spacing`` pixels (random sequential packing).

    Raising ``jitter`` (0 to 0.5) varies the spacing more from centre to centre.
    """
    height, width = region.shape
    candidates = rng.permutation(np.flatnonzero(region))
    spacings = spacing * (1 + jitter * rng.uniform(-1, 1, candidates.size))
    free = np.ones_like(region)
    kept = []
    for flat, distance in zip(candidates.tolist(), spacings.tolist(), strict=True):
        row, column = divmod(flat, width)
        if not free[row, column]:
            continue
        kept.append((row, column))
        reach = int(distance)
        rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
        columns = np.arange(max(column - reach, 0), min(column + reach + 1, width))
        near = (rows[:, None] - row) ** 2 + (columns - column) ** 2 < distance**2
        free[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] &= ~near
    centres = np.array(kept, dtype=float).reshape(-1, 2)
    return centres + rng.uniform(-0.5, 0.5, centres.shape)
