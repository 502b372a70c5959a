"""The region of an image that clicks segment: its place, its size when read, and the clicks in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvm_monai.slides import SlideImage

FLAT = 4096
"""Longest side in px of an image that is used whole where a request names no region."""

AROUND = 512
"""Side in working px of the region around the clicks in a larger image."""


@dataclass(frozen=True)
class Window:
    """A part of an image in level-0 pixels: the upper left corner and the size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Clicks:
    """Click positions (x, y) in level-0 pixels inside a window.

    Attributes:
        outside: number of clicks outside the window.
        assumed: class whose missing clicks were replaced, `foreground` or `background`; None where there are both.
    """

    foreground: tuple[tuple[float, float], ...]
    background: tuple[tuple[float, float], ...]
    outside: int = 0
    assumed: Literal["foreground", "background"] | None = None


def whole(shape: tuple[int, int]) -> Window:
    """Return the window of a whole image of (height, width)."""
    return Window(0, 0, shape[1], shape[0])


def far_corners(clicks: Sequence[tuple[float, float]], window: Window) -> tuple[tuple[float, float], ...]:
    """Return the window's corner pixels at least half as far from their nearest click as the farthest corner is."""
    columns, rows = (window.x + 0.5, window.x + window.width - 0.5), (window.y + 0.5, window.y + window.height - 0.5)
    corners = [(x, y) for y in rows for x in columns]
    distances = [min(math.dist(corner, click) for click in clicks) for corner in corners]
    return tuple(c for c, distance in zip(corners, distances, strict=True) if distance >= max(distances) / 2)


def clipped(x: float, y: float, width: float, height: float, shape: tuple[int, int]) -> Window | None:
    """Return the whole pixels of a rectangle inside an image of (height, width); None where it lies outside."""
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    right, bottom = min(shape[1], math.floor(x) + math.ceil(width)), min(shape[0], math.floor(y) + math.ceil(height))
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None


def window_around(
    clicks: Sequence[tuple[float, float]], shape: tuple[int, int], *, factor: float, flat: float = FLAT
) -> Window:
    """Return all of a small image of (height, width), else a square region around the clicks inside the image.

    Args:
        factor: working px of one level-0 pixel.
        flat: longest side, in level-0 px, of an image that is taken whole.
    """
    clicks = [(x, y) for x, y in clicks if 0 <= x < shape[1] and 0 <= y < shape[0]]
    if max(shape) <= flat or not clicks:
        return whole(shape)
    (left, top), (right, bottom) = (tuple(edge(values) for values in zip(*clicks, strict=True)) for edge in (min, max))
    side = max(AROUND / factor, 1.5 * (right - left), 1.5 * (bottom - top))
    x, y = math.floor((left + right - side) / 2), math.floor((top + bottom - side) / 2)
    found = clipped(x, y, side, side, shape)
    assert found is not None
    return found


def working_shape(window: Window, *, factor: float, longest: float = math.inf) -> tuple[int, int]:
    """Compute (height, width) of a window at `factor` working px per level-0 pixel, with sides of at most `longest`."""
    shrink = min(1.0, longest / (factor * max(window.width, window.height)))
    return max(1, round(window.height * factor * shrink)), max(1, round(window.width * factor * shrink))


def read_pixels(image: SlideImage, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Read a window of an image at a working (height, width), (h, w, 3) uint8."""
    scale = (window.height / shape[0], window.width / shape[1])
    return image.read_scaled((window.x, window.y), shape=shape, scale=scale)
