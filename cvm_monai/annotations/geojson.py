"""Read and write GeoJSON as QuPath does."""

import ast
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvm_monai.annotations.model import UNLABELLED, Annotations
from cvm_monai.annotations.parsed_object import Outline, ParsedObject, read_colour, read_position, read_ring
from cvm_monai.errors import CvmError
from cvm_monai.files import write_text

COLOURS: Mapping[int, tuple[int, int, int]] = {0: (0, 114, 178), 1: (213, 94, 0), UNLABELLED: (153, 153, 153)}
"""RGB of each label: blue, vermilion and grey of Okabe and Ito's colour-blind-safe palette."""

FURTHER_COLOURS = ((0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
"""RGB of classes 2, 3, ... in turn, from the same palette: green, purple, orange, sky, yellow."""

POINT_KINDS = ("Point", "MultiPoint")
REGION_KINDS = ("Polygon", "MultiPolygon")

STRUCTURE = ("root", "pathrootobject", "tmacore", "pathtmacoreobject")
"""Types of QuPath's container objects, ignored unless they have a class: the names in its versions, in lower case and
without underscores or blanks."""

NOTHING = ("null", "nan", "NaN")
"""Texts that table libraries write for a missing class."""

LONGEST_TEXT = 10_000
"""Longest text, in characters, that is parsed as an object."""


def is_feature(item: object) -> bool:
    """Whether this is a feature, a collection of them, or a bare geometry."""
    if not isinstance(item, dict):
        return False
    kinds = ("Feature", "FeatureCollection", "GeometryCollection", *POINT_KINDS, *REGION_KINDS)
    return item.get("type") in kinds or "geometry" in item


def iter_geojson(item: Any, path: Path, numbers: Iterator[int]) -> Iterator[ParsedObject]:
    """Yield one object of a file as QuPath writes it, then its child objects.

    The label is ``properties.classification.name`` (for derived classes the names joined as QuPath shows them), or else
    ``properties.label`` or ``properties.group``, as in the Digital Slide Archive; never ``properties.name``. The
    classification may be stored as text, as GIS libraries do. The outline of a cell is read, its nucleus is not.

    Args:
        numbers: gives each feature its number.

    Raises:
        CvmError: not a feature, or malformed coordinates, with the feature's number.
    """
    if isinstance(item, dict) and item.get("type") == "FeatureCollection":
        yield from _children(item.get("features"), path, numbers)
        return
    where = f"{path}, feature {next(numbers)}"
    if not is_feature(item):
        raise CvmError(f'{where}: not a feature (an object with "type": "Feature")')
    geometry = item if "coordinates" in item or "geometries" in item else item.get("geometry")
    properties = item.get("properties") or {}
    if not isinstance(geometry or {}, dict) or not isinstance(properties, dict):
        raise CvmError(f"{where}: geometry and properties must be objects")
    kind = properties.get("objectType") or properties.get("object_type") or item.get("id")  # QuPath 0.4, 0.3, 0.2
    yield _found(geometry or {"type": "no geometry"}, properties, kind, where)
    yield from _children(properties.get("childObjects") or item.get("childObjects"), path, numbers)


def write_geojson(
    path: str | Path,
    annotations: Annotations,
    *,
    names: Sequence[str] = ("background", "target"),
    colours: Mapping[int, tuple[int, int, int]] = COLOURS,
) -> None:
    """Write a FeatureCollection that QuPath opens: a MultiPoint for each class, a Polygon for each region.

    The file is written under a temporary name and renamed. ``counts`` is not written.

    Args:
        names: class name of each label; 255 is always ``exclusion``.
        colours: RGB of each label; missing classes take ``FURTHER_COLOURS`` in turn.

    Example:
        >>> import cvm_monai as cvm
        >>> clicks = cvm.Annotations(points=(cvm.Point(3.5, 4.5, label=1),))
        >>> cvm.write_geojson("clicks.geojson", clicks)
        >>> cvm.read_annotations("clicks.geojson") == clicks
        True
    """
    title, colours = class_titles(names), label_colours(names, colours)
    features = []
    for label in dict.fromkeys(point.label for point in annotations.points):
        positions = [[point.x, point.y] for point in annotations.points if point.label == label]
        features.append(annotation_feature("MultiPoint", positions, title[label], colours[label]))
    for region in annotations.regions:
        rings = [[list(vertex) for vertex in (*ring, ring[0])] for ring in (region.exterior, *region.holes)]
        features.append(annotation_feature("Polygon", rings, title[region.label], colours[region.label]))
    lines = ",\n".join(json.dumps(feature) for feature in features)
    write_text(Path(path), f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')


def class_titles(names: Sequence[str]) -> dict[int, str]:
    """Return the class name of each label; 255 is always ``exclusion``."""
    return dict(enumerate(names)) | {UNLABELLED: "exclusion"}


def label_colours(
    names: Sequence[str], colours: Mapping[int, tuple[int, int, int]] = COLOURS
) -> dict[int, tuple[int, int, int]]:
    """Return the RGB of each label; classes missing in ``colours`` take ``FURTHER_COLOURS`` in turn."""
    further = {label: FURTHER_COLOURS[(label - 2) % len(FURTHER_COLOURS)] for label in range(2, len(names))}
    return further | dict(colours)


def annotation_feature(kind: str, coordinates: list[Any], name: str, colour: tuple[int, int, int]) -> dict[str, Any]:
    """Make one annotation object with QuPath's property names."""
    classification = {"name": name, "color": list(colour)}
    properties = {"objectType": "annotation", "classification": classification}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _children(features: Any, path: Path, numbers: Iterator[int]) -> Iterator[ParsedObject]:
    """Yield the features of a list; anything else yields none."""
    for feature in features if isinstance(features, list) else ():
        yield from iter_geojson(feature, path, numbers)


def _found(geometry: dict[str, Any], properties: dict[str, Any], kind: Any, where: str) -> ParsedObject:
    """Convert a feature's geometry to a parsed object; `kind` is the type of QuPath's object."""
    label = _label(properties)
    if label is None and str(kind).lower().replace("_", "").replace(" ", "") in STRUCTURE:
        return ParsedObject(None, where, other=[str(kind)])
    points: list[tuple[float, float]] = []
    outlines: list[Outline] = []
    other: list[str] = []
    _collect(geometry, where, points, outlines, other)
    classification = unpacked(properties.get("classification"))
    shown = classification if isinstance(classification, dict) else properties
    colour = read_colour(shown.get("color")) or read_colour(shown.get("colorRGB"))
    return ParsedObject(label, where, points, outlines, other, colour=colour)


def _collect(
    geometry: dict[str, Any], where: str, points: list[tuple[float, float]], outlines: list[Outline], other: list[str]
) -> None:
    """Add the points, outlines and other parts of a geometry to the lists; recurses into collections."""
    kind, coordinates = str(geometry.get("type")), geometry.get("coordinates")
    parts = geometry.get("geometries")
    if kind == "GeometryCollection" and isinstance(parts, list) and parts:
        for part in parts:
            if not isinstance(part, dict):
                raise CvmError(f"{where}: the parts of a GeometryCollection must be geometries")
            _collect(part, where, points, outlines, other)
        return
    if kind not in POINT_KINDS + REGION_KINDS:
        other.append(kind)
        return
    if coordinates == []:
        other.append(f"empty {kind}")
        return
    several = kind.startswith("Multi")
    many = coordinates if several else [coordinates]
    if not isinstance(many, list):
        raise CvmError(f"{where}: the coordinates of a {kind} must be a list")
    parts = [part for part in many if part not in ([], [[]]) and not (several and part is None)]
    other += [f"empty part of a {kind}"] * (len(many) - len(parts))
    if kind in POINT_KINDS:
        points += [read_position(position, where) for position in parts]
        return
    for rings in parts:
        if not isinstance(rings, list) or not rings:
            raise CvmError(f"{where}: a polygon needs at least one ring of positions")
        outlines.append(tuple(read_ring(ring, where) for ring in rings))


def _label(properties: dict[str, Any]) -> str | None:
    """Return the label as written in the file; None where there is none."""
    label = unpacked(properties.get("classification"))
    if isinstance(label, dict):
        names = label.get("names")
        label = ": ".join(map(str, names)) if isinstance(names, list) and names else label.get("name")
    if label is None:
        label = unpacked(properties.get("label"))
        label = label.get("value") if isinstance(label, dict) else label
    if label is None:
        label = properties.get("group")
    return None if label is None or not str(label).strip() else str(label)


def unpacked(value: Any) -> Any:
    """Parse an object or a quoted text that a GIS library wrote as text, JSON or Python; null and NaN become None.

    Anything else is returned unchanged.
    """
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", '"') or len(value) > LONGEST_TEXT:
        return None if value in NOTHING else value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
        if isinstance(found, str):
            return unpacked(found)
    return value
