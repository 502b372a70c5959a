"""Read ASAP's XML, as used by the Camelyon challenges and written by QuPath's MONAI Label plug-in."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from cvm_monai.annotations.model import Colour
from cvm_monai.annotations.parsed_object import Outline, ParsedObject, check_position, open_ring, read_colour
from cvm_monai.errors import CvmError
from cvm_monai.files import opened_bytes, shown

POINT_KINDS = ("dot", "pointset")
REGION_KINDS = ("polygon", "rectangle", "spline", "ellipse")
"""Types of annotation that have one outline."""

GEOMETRY = "geometry"
"""QuPath's type of a region with several rings; their vertices are listed one ring after another, unseparated."""

SIDES = 64
"""Number of sides of the polygon that approximates an ellipse."""


LONGEST_TAG = 2**24
"""Bytes without the end of a tag from which a file is refused: a parser keeps a tag in memory and rescans it."""

MANY_TAGS = 2**22
"""Number of tags that every file may have; a file may have more, up to half its size in bytes."""


def iter_asap(path: Path) -> Iterator[ParsedObject]:
    """Yield every annotation of a file: dots and point sets, polygons, rectangles, splines, ellipses and geometries.

    The class is ``PartOfGroup``, never ``Name``; if the group is unknown, the group's own ``PartOfGroup`` is used. A
    spline is the polygon of its vertices, as in ASAP's own masks. An ellipse is stored as its four outermost vertices,
    a geometry as its closed rings one after the other, parts and holes alike. Names of tags and attributes are
    case-insensitive, decimal commas are accepted, and vertices are sorted by ``Order``.

    Raises:
        CvmError: malformed XML, entities, XML of another program, or a coordinate that is not a number.
    """
    root = _parse(path)
    tags = {_tag(element) for element in root.iter()}
    if _tag(root) != "asap_annotations" and not {"annotation", "coordinate"} <= tags:
        raise CvmError(f"{path}: not ASAP's XML (its outermost tag is <{_tag(root)}>); export it again from ASAP")
    parents, colours = _groups(root)
    elements = [element for element in root.iter() if _tag(element) == "annotation"]
    for number, element in enumerate(elements, start=1):
        yield _found(element, f"{path}, annotation {number}", parents, colours)


def _parse(path: Path) -> Element:
    """Parse a file to its root element; defusedxml refuses entities and external references."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    with opened_bytes(path) as file:
        try:
            root: Element = parse(_Tags(file, path)).getroot()
        except ParseError as error:
            line, column = error.position
            if (line, column) == (1, 0) and "no element" in str(error):
                raise CvmError(f"{path} is empty: if nothing is annotated, remove it") from None
            raise CvmError(f"{path}, line {line}: not valid XML ({error})") from None
        except DefusedXmlException:
            raise CvmError(
                f"{path}: it declares XML entities, which annotations do not need and which are not read"
            ) from None
        except (LookupError, UnicodeError, ValueError) as error:
            if str(error).startswith(str(path)):  # raised by the decompression, complete
                raise
            raise CvmError(f"{path}: not valid XML ({error})") from None
    return root


class _Tags:
    """An XML file that is refused while it is read if a tag is too long or the tags are too many."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.waiting, self.tags = file, path, 0, 0
        self.most = max(MANY_TAGS, path.stat().st_size // 2)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        end, self.tags = data.rfind(b">"), self.tags + data.count(b">")
        self.waiting = self.waiting + len(data) if end < 0 else len(data) - end
        if self.waiting > LONGEST_TAG:
            raise CvmError(f"{self.path}: one tag or text of more than 16 MiB, too long for an annotation")
        if self.tags > self.most:
            raise CvmError(f"{self.path}: more than {self.most} tags, too many for annotations in a file of its size")
        return data


def _tag(element: Element) -> str:
    """Return the tag in lower case, without its namespace; empty for a comment."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _attributes(element: Element) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in element.attrib.items()}


def _named(text: str | None) -> str | None:
    """Return a group's name; ASAP writes the text ``None`` for no group."""
    return None if not text or text.lower() == "none" else text


def _groups(root: Element) -> tuple[dict[str, str], dict[str, Colour]]:
    """Return the parent of each group, and the colour of each group."""
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


def _found(element: Element, where: str, parents: Mapping[str, str], colours: Mapping[str, Colour]) -> ParsedObject:
    """Parse one annotation."""
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
    if kind.lower() not in (*POINT_KINDS, *REGION_KINDS, GEOMETRY):
        return ParsedObject(**facts, other=[kind])
    if not positions:
        return ParsedObject(**facts, other=[f"empty {kind}"])
    if kind.lower() in POINT_KINDS:
        return ParsedObject(**facts, points=positions)
    if kind.lower() == GEOMETRY:
        outlines = _geometry(positions)
        return ParsedObject(**facts, outlines=outlines) if outlines else ParsedObject(**facts, other=[f"open {kind}"])
    return ParsedObject(**facts, outlines=[(_ring(kind.lower(), np.array(positions)),)])


def _ring(kind: str, vertices: np.ndarray) -> np.ndarray:
    """Return the outline of a region of one ring."""
    (left, top), (right, bottom) = vertices.min(axis=0), vertices.max(axis=0)
    if kind == "rectangle" and len(vertices) == 2:  # two opposite corners
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if kind == "ellipse":
        angles = np.arange(SIDES) * (2 * math.pi / SIDES)
        unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return np.array([left + right, top + bottom]) / 2 + unit * np.array([right - left, bottom - top]) / 2
    return open_ring(vertices)


def _geometry(positions: list[tuple[float, float]]) -> list[Outline]:
    """Make polygons with holes from consecutive rings, by the even-odd rule.

    Empty where the vertices do not form closed rings, as those of a line.
    """
    import shapely

    ends = _ring_ends(positions)
    if ends is None:
        return []
    rings, start = [], 0
    for end in ends:
        rings.append(shapely.Polygon(positions[start : end + 1]))
        start = end + 1
    covered = shapely.Polygon()
    for ring in rings:
        covered = covered.symmetric_difference(shapely.make_valid(ring))
    polygons = [part for part in shapely.get_parts(covered) if part.geom_type == "Polygon"]
    return [
        tuple(open_ring(np.asarray(ring.coords)[:, :2]) for ring in (part.exterior, *part.interiors))
        for part in polygons
        if part.area
    ]


def _ring_ends(positions: list[tuple[float, float]]) -> list[int] | None:
    """Find the index of the last vertex of each closed ring; None where the vertices cannot be split into rings.

    A ring ends where its first vertex is repeated, after at least three others. A rounded vertex may equal it earlier:
    the split is chosen so that the last ring ends at the end of the list.
    """
    count = len(positions)
    ends: list[int | None] = [None] * count  # end of a ring that starts here and is followed by rings only
    waiting: dict[tuple[float, float], list[int]] = {}  # possible ends of rings by their first vertex, the nearest last
    for start in reversed(range(count)):
        found = waiting.get(positions[start], [])
        ends[start] = next((end for end in reversed(found) if end >= start + 3), None)
        if start == count - 1 or ends[start + 1] is not None:
            waiting.setdefault(positions[start], []).append(start)
    chosen, start = [], 0
    while start < count:
        end = ends[start]
        if end is None:
            return None
        chosen.append(end)
        start = end + 1
    return chosen


def _positions(element: Element, where: str) -> list[tuple[float, float]]:
    """Return the vertices, sorted by ``Order``."""
    rows = [_attributes(vertex) for vertex in _vertices(element)]
    orders = [_float(row.get("order", "")) for row in rows]
    if all(map(math.isfinite, orders)):
        rows = [row for _, row in sorted(zip(orders, rows, strict=True), key=lambda pair: pair[0])]
    positions = []
    for row in rows:
        x, y = (_float(row.get(name, "")) for name in "xy")
        if not math.isfinite(x) or not math.isfinite(y):
            raise CvmError(f"{where}: X and Y must be numbers, got {shown(row.get('x'))} and {shown(row.get('y'))}")
        positions.append(check_position(x, y, where))
    return positions


def _vertices(element: Element) -> Iterator[Element]:
    """Yield the coordinate elements of an annotation, without those of annotations nested in it."""
    waiting = list(reversed(element))
    while waiting:
        child = waiting.pop()
        if _tag(child) == "coordinate":
            yield child
        if _tag(child) != "annotation":
            waiting.extend(reversed(child))


def _float(text: str) -> float:
    """Parse a number, also with a decimal comma; NaN for anything else."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
