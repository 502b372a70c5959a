"""ASAP's XML, as used by the Camelyon challenges."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from cvm_monai.annotations.files import opened_bytes, shown
from cvm_monai.annotations.found import Found, check_position, open_ring, read_colour
from cvm_monai.annotations.model import Colour

POINT_KINDS = ("dot", "pointset")
REGION_KINDS = ("polygon", "rectangle", "spline")


LONGEST_TAG = 2**24
"""Bytes without the end of a tag, from which a file is refused: a parser holds a tag in memory, and reads it often."""

MANY_TAGS = 2**22
"""Tags that any file may have; a larger one may have half as many as it has bytes, which a packed one rarely does."""


def iter_asap(path: Path) -> Iterator[Found]:
    """Every annotation of a file: dots and point sets, polygons, rectangles and splines.

    The class is ``PartOfGroup``, never ``Name``; a group's own ``PartOfGroup`` speaks where the group is unknown. A
    spline is the polygon of its vertices, as in ASAP's own masks. Names of tags and attributes are read in any case,
    decimal commas too, and vertices by their ``Order``.

    Raises:
        ValueError: malformed XML, entities, XML of another program, or a coordinate that is no number.
    """
    root = _parse(path)
    tags = {_tag(element) for element in root.iter()}
    if _tag(root) != "asap_annotations" and not {"annotation", "coordinate"} <= tags:
        raise ValueError(f"{path}: not ASAP's XML (its outermost tag is <{_tag(root)}>); export it again from ASAP")
    parents, colours = _groups(root)
    elements = [element for element in root.iter() if _tag(element) == "annotation"]
    for number, element in enumerate(elements, start=1):
        yield _found(element, f"{path}, annotation {number}", parents, colours)


def _parse(path: Path) -> Element:
    """The outermost element; defusedxml refuses whatever expands or is fetched from elsewhere."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    with opened_bytes(path) as file:
        try:
            root: Element = parse(_Tags(file, path)).getroot()
        except ParseError as error:
            line, column = error.position
            if (line, column) == (1, 0) and "no element" in str(error):
                raise ValueError(f"{path} is empty: where nothing is annotated remove it") from None
            raise ValueError(f"{path}, line {line}: not valid XML ({error})") from None
        except DefusedXmlException:
            raise ValueError(
                f"{path}: it declares XML entities, which no annotation needs and which are not read"
            ) from None
        except (LookupError, UnicodeError, ValueError) as error:
            if str(error).startswith(str(path)):  # said by what unpacks it
                raise
            raise ValueError(f"{path}: not valid XML ({error})") from None
    return root


class _Tags:
    """An XML file whose tags, and texts between them, are of a sane length."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.waiting, self.tags = file, path, 0, 0
        self.most = max(MANY_TAGS, path.stat().st_size // 2)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        end, self.tags = data.rfind(b">"), self.tags + data.count(b">")
        self.waiting = self.waiting + len(data) if end < 0 else len(data) - end
        if self.waiting > LONGEST_TAG:
            raise ValueError(f"{self.path}: one tag or text of more than 16 MiB, which no annotation is")
        if self.tags > self.most:
            raise ValueError(
                f"{self.path}: more than {self.most} tags in a file of its size, which no annotations have"
            )
        return data


def _tag(element: Element) -> str:
    """Lower case, without a namespace; empty for a comment."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _attributes(element: Element) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in element.attrib.items()}


def _named(text: str | None) -> str | None:
    """A group's name; ASAP writes ``None`` for no group."""
    return None if not text or text.lower() == "none" else text


def _groups(root: Element) -> tuple[dict[str, str], dict[str, Colour]]:
    """The group that each group is part of, and the colour of each group."""
    parents: dict[str, str] = {}
    colours: dict[str, Colour] = {}
    for element in root.iter():
        if _tag(element) != "group":
            continue
        attributes = _attributes(element)
        name, parent = _named(attributes.get("name")), _named(attributes.get("partofgroup"))
        colour = read_colour(attributes.get("color"))
        if name and parent:
            parents[name] = parent
        if name and colour:
            colours[name] = colour
    return parents, colours


def _found(element: Element, where: str, parents: Mapping[str, str], colours: Mapping[str, Colour]) -> Found:
    """One annotation."""
    attributes = _attributes(element)
    positions = _positions(element, where)
    kind = attributes.get("type", "Dot" if len(positions) == 1 else "Polygon")
    label = _named(attributes.get("partofgroup"))
    groups: list[str] = []
    above = parents.get(label or "")
    while above and above != label and above not in groups:
        groups.append(above)
        above = parents.get(above)
    facts: dict[str, Any] = {"label": label, "where": where, "groups": groups}
    facts["colour"] = colours.get(label, read_colour(attributes.get("color"))) if label else None
    if kind.lower() not in POINT_KINDS + REGION_KINDS:
        return Found(**facts, other=[kind])
    if not positions:
        return Found(**facts, other=[f"empty {kind}"])
    if kind.lower() in POINT_KINDS:
        return Found(**facts, points=positions)
    ring = np.array(positions)
    if kind.lower() == "rectangle" and len(ring) == 2:  # two opposite corners
        (x0, y0), (x1, y1) = positions
        ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return Found(**facts, outlines=[(open_ring(ring),)])


def _positions(element: Element, where: str) -> list[tuple[float, float]]:
    """The vertices in their order."""
    rows = [_attributes(vertex) for vertex in _vertices(element)]
    orders = [_float(row.get("order", "")) for row in rows]
    if all(map(math.isfinite, orders)):
        rows = [row for _, row in sorted(zip(orders, rows, strict=True), key=lambda pair: pair[0])]
    positions = []
    for row in rows:
        x, y = (_float(row.get(name, "")) for name in "xy")
        if not math.isfinite(x) or not math.isfinite(y):
            raise ValueError(f"{where}: X and Y must be numbers, got {shown(row.get('x'))} and {shown(row.get('y'))}")
        positions.append(check_position(x, y, where))
    return positions


def _vertices(element: Element) -> Iterator[Element]:
    """The coordinates of an annotation; those of annotations inside it are their own."""
    waiting = list(reversed(element))
    while waiting:
        child = waiting.pop()
        if _tag(child) == "coordinate":
            yield child
        if _tag(child) != "annotation":
            waiting.extend(reversed(child))


def _float(text: str) -> float:
    """A number, NaN for anything else; a decimal comma is understood."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
