"""Read annotation documents of the Digital Slide Archive (large_image, HistomicsUI)."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cvm_monai.annotations.parsed_object import Outline, ParsedObject, read_colour, read_position, read_ring
from cvm_monai.errors import CvmError

ELEMENTS = ("point", "polyline", "rectangle", "circle", "ellipse")
"""Types of elements that are read; others are counted."""

KINDS = (*ELEMENTS, "arrow", "griddata", "heatmap", "image", "pixelmap", "rectanglegrid")

SIDES = 64
"""Number of sides of the polygon that approximates an ellipse."""

UNNAMED = ("", "default", "none")
"""Group names by which HistomicsUI means no group."""


def is_document(item: object) -> bool:
    """Whether this is an annotation, its wrapper ``{"annotation": ...}``, or a lone element."""
    if not isinstance(item, dict):
        return False
    return isinstance(item.get("annotation"), dict) or "elements" in item or item.get("type") in KINDS


def iter_document(item: dict[str, Any], where: str) -> Iterator[ParsedObject]:
    """Yield every element of a document: points, closed polylines with holes, rectangles, circles and ellipses.

    The class is the element's ``group``, or else its ``label``; the document's name is ignored.

    Raises:
        CvmError: a malformed element, with its number.
    """
    document = item.get("annotation") if isinstance(item.get("annotation"), dict) else item
    assert document is not None
    elements = document.get("elements", []) if document.get("type") not in KINDS else [document]
    if not isinstance(elements, list):
        raise CvmError(f"{where}: the elements of an annotation must be a list")
    for number, element in enumerate(elements, start=1):
        yield _found(element, f"{where}, element {number}")


def _found(element: Any, where: str) -> ParsedObject:
    """Parse one element."""
    if not isinstance(element, dict):
        raise CvmError(f"{where}: an element must be an object")
    kind = str(element.get("type"))
    label, colour = _label(element), read_colour(element.get("lineColor")) or read_colour(element.get("fillColor"))
    if kind == "point":
        return ParsedObject(label, where, points=[read_position(element.get("center"), where)], colour=colour)
    if kind == "polyline" and not element.get("closed"):
        return ParsedObject(label, where, other=["open polyline"])
    if kind not in ELEMENTS:
        return ParsedObject(label, where, other=[kind])
    outline = _polyline(element, where) if kind == "polyline" else _round_or_square(element, kind, where)
    if not len(outline[0]):
        return ParsedObject(label, where, other=[f"empty {kind}"])
    return ParsedObject(label, where, outlines=[outline], colour=colour)


def _label(element: dict[str, Any]) -> str | None:
    """Return the group, or else the label's text."""
    label = element.get("label")
    names = (element.get("group"), label.get("value") if isinstance(label, dict) else label)
    return next((str(name) for name in names if name is not None and str(name).strip().lower() not in UNNAMED), None)


def _polyline(element: dict[str, Any], where: str) -> Outline:
    holes = element.get("holes") or []
    if not isinstance(holes, list):
        raise CvmError(f"{where}: the holes of a polyline must be a list of rings")
    return tuple(read_ring(ring, where) for ring in (element.get("points"), *holes))


def _round_or_square(element: dict[str, Any], kind: str, where: str) -> Outline:
    """Make the outline of a rectangle, circle or ellipse, rotated by ``rotation`` (radians, from x towards y)."""
    centre = read_position(element.get("center"), where)
    names = ("radius", "radius") if kind == "circle" else ("width", "height")
    size = read_position([element.get(name) for name in names], where)
    if kind == "rectangle":
        corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    else:
        angles = np.arange(SIDES) * (2 * math.pi / SIDES)
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (1 if kind == "circle" else 0.5)
    turn, _ = read_position([element.get("rotation") or 0, 0], where)
    x, y = (corners * size).T
    cosine, sine = math.cos(turn), math.sin(turn)
    return (np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1) + centre,)
