"""Which part of an image a request speaks about, and at which size it is looked at."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.slides import SlideImage

FLAT = 4096
"""Longest side in px of an image that is looked at as a whole where a request names no region."""

MOST_CLICKS = 100
"""Clicks of a class: each costs a map, and each pair of them a pass over it."""

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
    """Positions (x, y) in level-0 pixels that lie in a window.

    Attributes:
        outside: how many did not.
        assumed: what stands for missing clicks, `foreground` or `background`; None where there are both.
    """

    foreground: tuple[tuple[float, float], ...]
    background: tuple[tuple[float, float], ...]
    outside: int = 0
    assumed: Literal["foreground", "background"] | None = None


def read_window(request: Mapping[str, Any], shape: tuple[int, int]) -> Window | None:
    """The `location` and `size` of a request, or its `roi`, cut to the image; None where it names no region.

    A size of 0 reaches to the image's border; -1 throughout, as the Digital Slide Archive has it, is no region.

    Raises:
        CvmError: no two finite numbers, or a region outside the image of (height, width).
    """
    location, size = request.get("location"), request.get("size")
    if location is None and size is None:
        box = read_box(request)
        if box is None:
            return None
        location, size = box[:2], (box[2] - box[0], box[3] - box[1])
    if _is_whole(location) and _is_whole(size):
        return None
    x, y = (math.floor(value) for value in read_pair("location", (0, 0) if location is None else location))
    width, height = (math.ceil(value) for value in read_pair("size", (0, 0) if size is None else size))
    if width < 0 or height < 0:
        raise CvmError(f"size must be a width and a height from 0, got {size!r}")
    right = shape[1] if width == 0 else min(shape[1], x + width)
    bottom = shape[0] if height == 0 else min(shape[0], y + height)
    x, y = max(0, x), max(0, y)
    if right <= x or bottom <= y:
        raise CvmError(
            f"the region at {location!r} of size {size!r} lies outside the image, {shape[1]} x {shape[0]} px"
        )
    return Window(x, y, right - x, bottom - y)


def read_box(request: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of the `roi` of a request, as CVAT (those four) and 3D Slicer (a range for each axis,
    in either direction) draw it; None where there is none.

    Raises:
        CvmError: anything else, or a box without area.
    """
    roi = request.get("roi")
    if roi in (None, "", [], ()):
        return None
    if isinstance(roi, list | tuple) and len(roi) == 6:
        roi = [roi[0], roi[2], roi[1], roi[3]]
    if not isinstance(roi, list | tuple) or len(roi) != 4:
        raise CvmError(f"roi must be [left, top, right, bottom], got {roi!r}"[:200])
    (x0, y0), (x1, y1) = read_pair("roi", roi[:2]), read_pair("roi", roi[2:])
    if x0 == x1 or y0 == y1:
        raise CvmError(f"roi must have an area, got {roi!r}"[:200])
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _is_whole(pair: Any) -> bool:
    """Whether both of a location or a size are -1."""
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(value == -1 for value in pair)


def whole(shape: tuple[int, int]) -> Window:
    """All of an image of (height, width)."""
    return Window(0, 0, shape[1], shape[0])


def read_positions(request: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    """The positions [[x, y], ...] under a name, given as a list or as its JSON text; none where the name is missing.

    Raises:
        CvmError: anything else.
    """
    found = request.get(name) or []
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except json.JSONDecodeError:
            raise CvmError(f"{name} must be a list of [x, y], got {found[:60]!r}") from None
    if not isinstance(found, Sequence):
        raise CvmError(f"{name} must be a list of [x, y], got {found!r}")
    return [read_pair(name, position) for position in found]


def read_clicks(request: Mapping[str, Any], window: Window) -> Clicks:
    """The `foreground` and `background` clicks of a request that lie in a window.

    Without any background click the window's corners stand for it, those that lie far from the clicks; without any
    click at all the middle of a `roi` stands for the target.

    Raises:
        CvmError: malformed ones, or none on the target and no `roi`.
    """
    inside: dict[str, tuple[tuple[float, float], ...]] = {}
    outside = 0
    for name in ("foreground", "background"):
        found = read_positions(request, name)
        inside[name] = tuple(
            (x, y)
            for x, y in found
            if window.x <= x < window.x + window.width and window.y <= y < window.y + window.height
        )
        if len(inside[name]) > MOST_CLICKS:
            raise CvmError(f"there are {len(inside[name])} {name} clicks in the region: give at most {MOST_CLICKS}")
        outside += len(found) - len(inside[name])
    assumed: Literal["foreground", "background"] | None = None
    if not inside["foreground"] and not inside["background"] and read_box(request) is not None:
        inside["foreground"] = ((window.x + window.width / 2, window.y + window.height / 2),)
        assumed = "foreground"
    if not inside["foreground"]:
        where = f" in the region ({outside} outside)" if outside else ""
        raise CvmError(
            f"there is no foreground click{where}: give at least one click on the target (in QuPath a point of the "
            "class Positive)"
        )
    if not inside["background"]:
        inside["background"] = far_corners(inside["foreground"], window)
        assumed = assumed or "background"
    return Clicks(inside["foreground"], inside["background"], outside, assumed)


def far_corners(clicks: Sequence[tuple[float, float]], window: Window) -> tuple[tuple[float, float], ...]:
    """The window's corner pixels that lie at least half as far from the nearest click as the farthest of them does."""
    columns, rows = (window.x + 0.5, window.x + window.width - 0.5), (window.y + 0.5, window.y + window.height - 0.5)
    corners = [(x, y) for y in rows for x in columns]
    distances = [min(math.dist(corner, click) for click in clicks) for corner in corners]
    return tuple(c for c, distance in zip(corners, distances, strict=True) if distance >= max(distances) / 2)


def window_of_clicks(request: Mapping[str, Any], image: SlideImage, *, factor: float) -> Window:
    """The region of a request, or else the whole of a flat image, or what lies around the clicks in a larger one.

    Args:
        factor: working px of one level-0 pixel.

    Raises:
        CvmError: as `read_window` and `read_positions`.
    """
    given = read_window(request, image.shape)
    if given is not None:
        return given
    clicks = [*read_positions(request, "foreground"), *read_positions(request, "background")]
    clicks = [(x, y) for x, y in clicks if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]]
    if max(image.shape) <= FLAT or not clicks:
        return whole(image.shape)
    (left, top), (right, bottom) = (tuple(edge(values) for values in zip(*clicks, strict=True)) for edge in (min, max))
    side = max(AROUND / factor, 1.5 * (right - left), 1.5 * (bottom - top))
    x, y = math.floor((left + right - side) / 2), math.floor((top + bottom - side) / 2)
    found = read_window({"location": (x, y), "size": (side, side)}, image.shape)
    assert found is not None
    return found


def working_shape(window: Window, *, factor: float, longest: float = math.inf) -> tuple[int, int]:
    """(height, width) of a window at `factor` working px per level-0 pixel, shrunk to a longer side of `longest`."""
    shrink = min(1.0, longest / (factor * max(window.width, window.height)))
    return max(1, round(window.height * factor * shrink)), max(1, round(window.width * factor * shrink))


def read_pixels(image: SlideImage, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8: a window of an image at a working (height, width)."""
    scale = (window.height / shape[0], window.width / shape[1])
    return image.read_scaled((window.x, window.y), shape=shape, scale=scale)


def read_pair(name: str, value: Any) -> tuple[float, float]:
    """The first two numbers of a position."""
    try:
        x, y = (float(number) for number in list(value)[:2])
    except (TypeError, ValueError, OverflowError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)) or max(abs(x), abs(y)) >= 2**31:
        raise CvmError(f"{name} must be made of pairs of numbers [x, y], got {value!r}"[:200])
    return x, y
