"""Choose the tiles to cut from a slide: deterministic geometry in level-0 pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvm_monai.errors import CvmError

Kind = Literal["points", "tissue", "whole", "lesion"]
"""Why a tile was chosen: around annotations, on tissue without any, all of a core or crop, around lesions."""

BORDER = 1 / 16
"""Fraction of a tile's side along its border where points are avoided: the network lacks context there."""

ROUNDED = 0.51
"""Level-0 pixels by which rounding a corner to whole pixels may move a point towards its tile's border."""

MIN_TISSUE = 0.5
"""Smallest fraction of tissue in a tile without annotations."""

SMALLEST, STEP = 64, 32
"""Smallest side, needed by training, and its step: networks halve their input five times."""

LARGEST = 2**14
"""Largest side: a tile of 16,384 px takes 768 MiB as RGB."""


@dataclass(frozen=True)
class Tile:
    """A square of a slide, or the whole slide.

    Attributes:
        x, y: upper left corner in level-0 pixels.
        points: indices of the points that belong to it.
        kind: why it was chosen.
    """

    x: int
    y: int
    points: tuple[int, ...] = ()
    kind: Kind = "points"


def check_tile_size(tile: int, flag: str = "--tile") -> None:
    """Check the side of tiles in pixels.

    Raises:
        CvmError: below 64, above 16,384, or not a multiple of 32.
    """
    if tile < SMALLEST or tile % STEP:
        raise CvmError(f"{flag} must be a multiple of {STEP} px, from {SMALLEST}, got {tile}")
    if tile > LARGEST:
        raise CvmError(f"{flag} must be at most {LARGEST} px, so that a tile fits into memory, got {tile}")


def cover_points(
    positions: np.ndarray, labels: np.ndarray, *, side: float, image_shape: tuple[int, int]
) -> tuple[Tile, ...]:
    """Choose few tiles that contain all points, each point belonging to one of them.

    The leftmost point without a tile gets one whose left side is at the point; its vertical position is chosen to
    contain points of two classes if possible, and as many points as possible. The tile is then centred on its points,
    moved into the slide, and gets the other points that it now contains. A point lies in the outer sixteenth of its
    tile only where the slide's border leaves no alternative.

    Args:
        positions: (P, 2) of (x, y), inside the slide.
        labels: (P,) class of each point.
        side: of a tile; raising it leaves fewer tiles, with more points each.
        image_shape: (height, width) of the slide; one smaller than a tile has its tile at (0, 0).

    Returns:
        Tiles from top to bottom, then from left to right, no two at one place; the points of each in ascending order.
    """
    inner = side * (1 - 2 * BORDER)
    waiting = np.lexsort((positions[:, 1], positions[:, 0])) if len(positions) else np.empty(0, np.int64)
    tiles = []
    while len(waiting):
        x, y = positions[waiting[0]]
        strip = waiting[(positions[waiting, 0] <= x + inner) & (np.abs(positions[waiting, 1] - y) <= inner)]
        taken = strip[_best_band(positions[strip, 1], labels[strip], y, inner)]
        corner = _corner(positions[taken], side, image_shape)
        held = _held(positions[waiting], corner, side, image_shape) | np.isin(waiting, taken)
        tiles.append(Tile(*corner, tuple(sorted(waiting[held].tolist()))))
        waiting = waiting[~held]
    return tuple(sorted(tiles, key=lambda tile: (tile.y, tile.x)))


def grid(side: float, image_shape: tuple[int, int]) -> np.ndarray:
    """Return corners (N, 2) of (x, y) of the tiles that fit side by side into a slide, by rows; (0, 0) if none does."""
    rows, columns = (
        np.floor(np.arange(max(1, math.floor(extent / side))) * side).astype(np.int64) for extent in image_shape
    )
    return np.stack([np.tile(columns, len(rows)), np.repeat(rows, len(columns))], 1)


def spread_tiles(
    corners: np.ndarray, tissue: np.ndarray, *, count: int, side: float, taken: tuple[Tile, ...] = ()
) -> tuple[Tile, ...]:
    """Choose at most ``count`` evenly spread tiles at ``corners`` on tissue that overlap no taken tile.

    Args:
        corners: (N, 2) of (x, y), in the order in which they are spread.
        tissue: (N,) fraction of each that is tissue; half is enough.
        count: raising it gives more tiles, as long as there is tissue. From 0.
    """
    free = tissue >= MIN_TISSUE
    for tile in taken:
        free &= np.abs(corners - (tile.x, tile.y)).max(1) >= side - 1
    left = corners[free]
    order = np.round(np.linspace(0, len(left) - 1, min(count, len(left)))).astype(int)
    return tuple(Tile(x, y, kind="tissue") for x, y in left[order].tolist())


def overlap(one: Tile, other: Tile, side: float) -> bool:
    """Whether two tiles overlap by more than rounding to whole pixels."""
    return max(abs(one.x - other.x), abs(one.y - other.y)) < side - 1


def place(centre: tuple[float, float], *, side: float, image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the corner (x, y) of the tile around a centre (x, y), moved inwards to stay in the slide."""
    x, y = (
        min(max(math.floor(middle - side / 2 + 0.5), 0), _last(extent, side))
        for middle, extent in zip(centre, image_shape[::-1], strict=True)
    )
    return x, y


def outside_part(tile: Tile, *, side: float, image_shape: tuple[int, int]) -> float:
    """Compute the fraction of a tile beyond the slide's border, in [0, 1]."""
    height, width = image_shape
    inside = max(0.0, min(width - tile.x, side)) * max(0.0, min(height - tile.y, side))
    return 1 - inside / side**2


def _best_band(y: np.ndarray, labels: np.ndarray, first: float, height: float) -> np.ndarray:
    """Find the points in the best band of a height that contains ``first``; of equals the topmost."""
    best: tuple[bool, int, float] = (False, 0, 0.0)
    chosen = np.empty(0, np.int64)
    for top in np.unique(y[y <= first]):
        inside = np.flatnonzero((y >= top) & (y <= top + height))
        score = (len(np.unique(labels[inside])) > 1, len(inside), -float(top))
        if first <= top + height and score > best:
            best, chosen = score, inside
    return chosen


def _corner(positions: np.ndarray, side: float, image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the corner of the tile centred on some points."""
    low, high = positions.min(0), positions.max(0)
    return place(tuple((low + high) / 2), side=side, image_shape=image_shape)


def _held(positions: np.ndarray, corner: tuple[int, int], side: float, image_shape: tuple[int, int]) -> np.ndarray:
    """Find the points that a tile contains, away from its border unless the slide's border forces it; (P,) bool.

    Includes every point for which `_corner` could return this corner, so that no two tiles have the same corner.
    """
    held = np.ones(len(positions), dtype=bool)
    for axis, (start, extent) in enumerate(zip(corner, image_shape[::-1], strict=True)):
        offset = positions[:, axis] - start
        low = 0.0 if start == 0 else max(0.0, side * BORDER - ROUNDED)
        high = side if start == _last(extent, side) else min(side, side * (1 - BORDER) + ROUNDED)
        held &= (offset >= low) & (offset <= high) & (offset < side)
    return held


def _last(extent: int, side: float) -> int:
    """Return the last whole pixel at which a tile may begin."""
    return max(0, math.ceil(extent - side))
