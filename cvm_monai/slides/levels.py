"""The levels of a pyramid and the choice among them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL_TOLERANCE = 0.01
"""A level that is coarser than asked by less than this part is taken still: interpolating by 1 % costs less sharpness
than reading the finer level costs time."""

ASPECT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        height, width: its size in its own pixels.
        downsample: level-0 pixels along the side of one of its pixels; 1 for level 0.
    """

    height: int
    width: int
    downsample: float


def make_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from their (height, width), the finest first."""
    height, width = sizes[0]
    return tuple(Level(h, w, downsample((height, width), (h, w))) for h, w in sizes)


def downsample(full: tuple[int, int], small: tuple[int, int]) -> float:
    """Level-0 pixels for each level pixel: the integer that explains both sides up to rounding, else their mean ratio.

    A side of 1001 px halved is 500 or 501 px long, and still halved exactly.
    """
    ratios = [a / b for a, b in zip(full, small, strict=True)]
    mean = sum(ratios) / len(ratios)
    for factor in {round(mean), math.floor(mean), math.ceil(mean)} - {0}:
        if all(small_side in (a // factor, -(-a // factor)) for a, small_side in zip(full, small, strict=True)):
            return float(factor)
    return mean


def pyramid_sizes(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Indices of the sizes that form one pyramid with the first: each smaller than the one before, of one shape."""
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
    """The coarsest level that is not coarser than ``scale`` level-0 pixels for each output pixel; level 0 if none."""
    fine = [index for index, level in enumerate(levels) if level.downsample <= scale * (1 + LEVEL_TOLERANCE)]
    return fine[-1] if fine else 0
