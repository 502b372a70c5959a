"""The levels of a pyramid, and the choice of a level for reading."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL_TOLERANCE = 0.01
"""Relative tolerance by which a level may be coarser than requested: upsampling by 1 % hardly blurs, and reading the
finer level takes longer."""

ASPECT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        height, width: size in the level's pixels.
        downsample: side of a pixel of the level in level-0 pixels; 1 for level 0.
    """

    height: int
    width: int
    downsample: float


def make_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Make levels from their (height, width), the finest first."""
    height, width = sizes[0]
    return tuple(Level(h, w, downsample((height, width), (h, w))) for h, w in sizes)


def downsample(full: tuple[int, int], small: tuple[int, int]) -> float:
    """Compute level-0 pixels per level pixel: the integer that fits both sides up to rounding, else their mean ratio.

    A side of 1001 px downsampled by 2 is 500 or 501 px long; the downsample is 2 in either case.
    """
    ratios = [a / b for a, b in zip(full, small, strict=True)]
    mean = sum(ratios) / len(ratios)
    for factor in {round(mean), math.floor(mean), math.ceil(mean)} - {0}:
        if all(small_side in (a // factor, -(-a // factor)) for a, small_side in zip(full, small, strict=True)):
            return float(factor)
    return mean


def pyramid_sizes(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Select the indices of the sizes that form one pyramid with the first: ever smaller, with one aspect ratio."""
    kept = [0]
    for index, (height, width) in enumerate(sizes[1:], start=1):
        smaller = height < sizes[kept[-1]][0] and width < sizes[kept[-1]][1]
        if smaller and min(height, width) > 0:
            ratios = sizes[0][0] / height, sizes[0][1] / width
            slack = ASPECT_TOLERANCE + 1 / min(height, width)
            if abs(ratios[0] - ratios[1]) <= slack * max(ratios):
                kept.append(index)
    return kept


def best_level(levels: Sequence[Level], scale: float) -> int:
    """Return the coarsest level not coarser than ``scale`` level-0 pixels per output pixel; level 0 if none is."""
    fine = [index for index, level in enumerate(levels) if level.downsample <= scale * (1 + LEVEL_TOLERANCE)]
    return fine[-1] if fine else 0
