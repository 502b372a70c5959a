"""GeoJSON as QuPath writes it, read and written."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvm_monai.annotations.files import read_json, write_text
from cvm_monai.annotations.labels import SKIP, find_label, label_table
from cvm_monai.annotations.model import UNLABELLED, Annotations, Point, Region, Ring

COLOURS: Mapping[int, tuple[int, int, int]] = {0: (0, 114, 178), 1: (213, 94, 0), UNLABELLED: (153, 153, 153)}
"""RGB of each label: blue, vermilion and grey of Okabe and Ito's colour-blind-safe palette."""

FURTHER_COLOURS = ((0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
"""RGB of classes 2, 3, ... in turn, from the same palette: green, purple, orange, sky, yellow."""

POINT_KINDS = ("Point", "MultiPoint")
REGION_KINDS = ("Polygon", "MultiPolygon")


def read_geojson(path: Path, *, classes: Mapping[str, str | int] | None = None) -> Annotations:
    """Read a FeatureCollection, a bare list of features or a single feature, gzipped or not.

    The label is ``properties.classification.name`` or else ``properties.label``; child objects follow their parent.
    Geometries that are neither points nor polygons are left out and counted, and so is a point of an exclusion class.

    Args:
        classes: class map, see ``label_table``.

    Raises:
        ValueError: malformed JSON (with its line), a malformed feature or an unknown or missing label (with the
            feature's number, counted from 1).
    """
    table = label_table(classes)
    points: list[Point] = []
    regions: list[Region] = []
    counts: Counter[str] = Counter()
    for number, feature in enumerate(_features(read_json(path), path), start=1):
        where = f"{path}, feature {number}"
        kind, coordinates, properties = _parts(feature, where)
        if kind not in POINT_KINDS + REGION_KINDS:
            counts[kind] += 1
            continue
        label = find_label(_label(properties), table, where=where)
        many = coordinates if kind.startswith("Multi") else [coordinates]
        if not isinstance(many, list):
            raise ValueError(f"{where}: the coordinates of a {kind} must be a list")
        if label == SKIP:
            counts["skip"] += 1
        elif kind in REGION_KINDS:
            regions += [_region(rings, label, where) for rings in many]
        elif label == UNLABELLED:
            counts["exclusion point"] += len(many)
        else:
            points += [Point(*_position(position, where), label) for position in many]
    return Annotations(tuple(points), tuple(regions), dict(counts))


def write_geojson(
    path: str | Path,
    annotations: Annotations,
    *,
    names: Sequence[str] = ("background", "target"),
    colours: Mapping[int, tuple[int, int, int]] = COLOURS,
) -> None:
    """Write a FeatureCollection that QuPath opens: a MultiPoint for each class, a Polygon for each region.

    The file is written aside and renamed. ``counts`` is not written.

    Args:
        names: class name of each label; 255 is always ``exclusion``.
        colours: RGB of each label; the classes that it lacks take ``FURTHER_COLOURS`` in turn.
    """
    title, colours = class_titles(names), class_colours(names, colours)
    features = []
    for label in dict.fromkeys(point.label for point in annotations.points):
        positions = [[point.x, point.y] for point in annotations.points if point.label == label]
        features.append(_feature("MultiPoint", positions, title[label], colours[label]))
    for region in annotations.regions:
        rings = [[list(vertex) for vertex in (*ring, ring[0])] for ring in (region.exterior, *region.holes)]
        features.append(_feature("Polygon", rings, title[region.label], colours[region.label]))
    lines = ",\n".join(json.dumps(feature) for feature in features)
    write_text(Path(path), f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')


def class_titles(names: Sequence[str]) -> dict[int, str]:
    """The class name of each label; 255 is always ``exclusion``."""
    return dict(enumerate(names)) | {UNLABELLED: "exclusion"}


def class_colours(
    names: Sequence[str], colours: Mapping[int, tuple[int, int, int]] = COLOURS
) -> dict[int, tuple[int, int, int]]:
    """RGB of each label; the classes that ``colours`` lacks take ``FURTHER_COLOURS`` in turn."""
    further = {label: FURTHER_COLOURS[(label - 2) % len(FURTHER_COLOURS)] for label in range(2, len(names))}
    return further | dict(colours)


def _feature(kind: str, coordinates: list[Any], name: str, colour: tuple[int, int, int]) -> dict[str, Any]:
    """One annotation object in QuPath's vocabulary."""
    classification = {"name": name, "color": list(colour)}
    properties = {"objectType": "annotation", "classification": classification}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _features(data: Any, path: Path) -> Iterator[Any]:
    """The features of any of the three outer forms."""
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data.get("features")
    elif isinstance(data, dict) and data.get("type") == "Feature":
        data = [data]
    if not isinstance(data, list):
        raise ValueError(f"{path}: not GeoJSON; a FeatureCollection, a list of features or one Feature is expected")
    for feature in data:
        yield feature
        properties = feature.get("properties") if isinstance(feature, dict) else None
        children = properties.get("childObjects") if isinstance(properties, dict) else None
        if children:  # QuPath's export of a hierarchy
            yield from _features(children, path)


def _parts(feature: Any, where: str) -> tuple[str, Any, dict[str, Any]]:
    """Geometry type, coordinates and properties of a feature; a null geometry has the type ``no geometry``."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise ValueError(f'{where}: not a feature (an object with "type": "Feature")')
    geometry = feature.get("geometry") or {"type": "no geometry"}
    properties = feature.get("properties") or {}
    if not isinstance(geometry, dict) or not isinstance(properties, dict):
        raise ValueError(f"{where}: geometry and properties must be objects")
    return str(geometry.get("type")), geometry.get("coordinates"), properties


def _label(properties: dict[str, Any]) -> object:
    """The label as it stands there: QuPath's class, derived classes joined as QuPath shows them, or a plain label."""
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names")
        classification = ": ".join(map(str, names)) if isinstance(names, list) else classification.get("name")
    return properties.get("label") if classification is None else classification


def _region(rings: Any, label: int, where: str) -> Region:
    """A polygon's rings: the exterior first, then its holes."""
    if not isinstance(rings, list) or not rings:
        raise ValueError(f"{where}: a polygon needs at least one ring of positions")
    exterior, *holes = (_ring(ring, where) for ring in rings)
    return Region(exterior, tuple(holes), label)


def _ring(ring: Any, where: str) -> Ring:
    """The vertices of a ring, the repeated last one taken away."""
    if not isinstance(ring, list):
        raise ValueError(f"{where}: a polygon's ring must be a list of positions")
    vertices = [_position(position, where) for position in ring]
    if len(vertices) > 1 and vertices[0] == vertices[-1]:
        vertices.pop()
    if len(vertices) < 3:
        raise ValueError(f"{where}: a polygon's ring needs at least three different positions, found {len(vertices)}")
    return tuple(vertices)


def _position(position: Any, where: str) -> tuple[float, float]:
    """Finite (x, y); further coordinates are passed over."""
    pair = position[:2] if isinstance(position, list) else []
    numbers = [value for value in pair if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{where}: a position must be two finite numbers [x, y], found {json.dumps(position)[:60]}")
    return float(numbers[0]), float(numbers[1])
