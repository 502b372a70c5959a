"""Read the region and the clicks of a request."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.interactive.window import Clicks, Window, clipped, far_corners, window_around
from cvm_monai.slides import SlideImage

MOST_CLICKS = 100
"""Maximal number of clicks of a class: each needs a map, and each pair a pass over it."""


def read_window(request: Mapping[str, Any], shape: tuple[int, int]) -> Window | None:
    """Read the `location` and `size` of a request, or its `roi`, clipped to the image; None without a region.

    A size of 0 reaches to the image's border; all values -1, as the Digital Slide Archive sends, mean no region.

    Raises:
        CvmError: values other than two finite numbers, or a region outside the image of (height, width).
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
    reach = (shape[1] - x if width == 0 else width, shape[0] - y if height == 0 else height)
    window = clipped(x, y, *reach, shape)
    if window is None:
        raise CvmError(
            f"the region at {location!r} of size {size!r} lies outside the image, {shape[1]} x {shape[0]} px"
        )
    return window


def read_box(request: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Read (left, top, right, bottom) of a request's `roi`; None where there is none.

    CVAT sends these four numbers, 3D Slicer a range for each axis, in either direction.

    Raises:
        CvmError: another form, or a box without area.
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
    """Whether both values of a location or a size are -1."""
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(value == -1 for value in pair)


def read_positions(request: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    """Read the positions [[x, y], ...] under a name, a list or its JSON text; empty where the name is missing.

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
    """Read the `foreground` and `background` clicks of a request inside a window.

    Without background clicks the window's corners far from the clicks replace them; without any click the centre of a
    `roi` is a target click.

    Raises:
        CvmError: malformed clicks, or none on the target and no `roi`.
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


def window_of_clicks(request: Mapping[str, Any], image: SlideImage, *, factor: float) -> Window:
    """Return the request's region, else all of a small image, else a region around the clicks.

    Args:
        factor: working px of one level-0 pixel.

    Raises:
        CvmError: as `read_window` and `read_positions`.
    """
    given = read_window(request, image.shape)
    if given is not None:
        return given
    clicks = [*read_positions(request, "foreground"), *read_positions(request, "background")]
    return window_around(clicks, image.shape, factor=factor)


def read_pair(name: str, value: Any) -> tuple[float, float]:
    """Read the first two numbers of a position."""
    try:
        x, y = (float(number) for number in list(value)[:2])
    except (TypeError, ValueError, OverflowError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)) or max(abs(x), abs(y)) >= 2**31:
        raise CvmError(f"{name} must be made of pairs of numbers [x, y], got {value!r}"[:200])
    return x, y
