"""One annotation object as read from a file, before its label is mapped and its outline is checked."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvm_monai.annotations.model import Colour
from cvm_monai.errors import CvmError

LARGEST = float(2**31)
"""Coordinates from this many pixels on are refused: no slide is that large, and areas would lose precision."""

Outline = tuple[np.ndarray, ...]
"""The rings of a polygon, each (N, 2) float64 vertices (x, y): the exterior first, then its holes."""


@dataclass(frozen=True)
class ParsedObject:
    """One object of a file.

    Attributes:
        label: its class as written in the file; None where it has none.
        where: file and place, for messages.
        points: positions (x, y).
        outlines: polygons; their rings may cross themselves or have no area.
        other: types of parts that are neither points nor polygons; an object with nothing else needs no label.
        groups: parent groups of the label, the nearest first; used where the label is unknown.
        colour: colour of the class in the file.
    """

    label: str | None
    where: str
    points: Sequence[tuple[float, float]] = ()
    outlines: Sequence[Outline] = ()
    other: Sequence[str] = ()
    groups: Sequence[str] = ()
    colour: Colour | None = None


def read_ring(positions: Any, where: str) -> np.ndarray:
    """Convert a ring of positions [x, y, ...] to (N, 2) vertices, without the repeated last one.

    Raises:
        CvmError: not a list, or an invalid position, see ``read_position``.
    """
    if not isinstance(positions, list):
        raise CvmError(f"{where}: a polygon's ring must be a list of positions")
    try:
        ring = np.array(positions)
    except ValueError:  # positions of different lengths
        ring = np.empty(0, dtype=object)
    if ring.ndim != 2 or ring.shape[1] < 2 or ring.dtype.kind not in "iuf" or not np.abs(ring).max() < LARGEST:
        ring = np.array([read_position(position, where) for position in positions])
    return open_ring(ring[:, :2].astype(np.float64) if len(ring) else np.empty((0, 2)))


def open_ring(ring: np.ndarray) -> np.ndarray:
    """Remove the last vertices of a ring that repeat the first one."""
    end = len(ring)
    while end > 1 and ring[end - 1, 0] == ring[0, 0] and ring[end - 1, 1] == ring[0, 1]:
        end -= 1
    return ring[:end]


def read_position(position: Any, where: str) -> tuple[float, float]:
    """Read a finite (x, y); further coordinates are ignored.

    Raises:
        CvmError: anything else, or a coordinate beyond any slide.
    """
    pair = position[:2] if isinstance(position, list) else []
    numbers = [value for value in pair if isinstance(value, int | float) and not isinstance(value, bool)]
    try:
        values = [float(value) for value in numbers]
    except OverflowError:  # a whole number of more than 308 digits
        raise CvmError(f"{where}: the position {json.dumps(position)[:60]} lies beyond any slide (2^31 px)") from None
    if len(values) != 2 or not all(map(math.isfinite, values)):
        raise CvmError(f"{where}: a position must be two finite numbers [x, y], found {json.dumps(position)[:60]}")
    return check_position(values[0], values[1], where)


def check_position(x: float, y: float, where: str) -> tuple[float, float]:
    """Check that (x, y) is a position on a slide.

    Raises:
        CvmError: a coordinate of 2^31 pixels or more, or one that is not finite.
    """
    if not max(abs(x), abs(y)) < LARGEST:
        raise CvmError(f"{where}: the position ({x:g}, {y:g}) lies beyond any slide (2^31 px)")
    return x, y


def read_colour(value: Any) -> Colour | None:
    """Parse a colour in one of the formats' notations; None for anything else.

    ``[255, 0, 0]``, ``#ff0000``, ``rgb(255, 0, 0)``, ``rgba(255, 0, 0, 0.5)``, or QuPath's 32-bit ARGB number.
    """
    numbers: Any = value
    if isinstance(value, int) and not isinstance(value, bool):
        numbers = [value >> 16 & 255, value >> 8 & 255, value & 255]
    elif isinstance(value, str) and value.strip().startswith("#") and len(value.strip()) >= 7:
        digits = value.strip()[1:7]
        numbers = list(bytes.fromhex(digits)) if all(digit in "0123456789abcdefABCDEF" for digit in digits) else None
    elif isinstance(value, str) and value.strip().lower().startswith("rgb"):
        parts = value[value.find("(") + 1 : value.find(")")].split(",")[:3]
        numbers = [int(part) for part in parts if part.strip().isdecimal() and len(part.strip()) <= 3]
    if not isinstance(numbers, list | tuple) or len(numbers) not in (3, 4):
        return None
    red, green, blue = numbers[:3]
    if not all(type(part) is int and 0 <= part <= 255 for part in (red, green, blue)):
        return None
    return red, green, blue
