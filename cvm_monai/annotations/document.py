"""A GeoJSON document that is edited in place: all that is in its file, with an id for every point and region.

QuPath's names, ids, measurements and objects of other kinds are kept. An id stays while others are added or removed. A
document is immutable, so that former ones serve to undo.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from cvm_monai.annotations.geojson import (
    COLOURS,
    POINT_KINDS,
    REGION_KINDS,
    annotation_feature,
    class_titles,
    is_feature,
    iter_geojson,
    label_colours,
)
from cvm_monai.annotations.labels import SKIP, UnknownLabelsError, look_up
from cvm_monai.annotations.model import Colour, Point, Region
from cvm_monai.annotations.parsed_object import ParsedObject
from cvm_monai.errors import CvmError


@dataclass(frozen=True)
class Entry:
    """One feature of a document.

    Attributes:
        feature: as it stands in the file.
        ids: of its points, or of its polygons; none for other features, which are kept and never changed.
        label: class index of them.
    """

    feature: Mapping[str, Any]
    ids: tuple[int, ...] = ()
    label: int = SKIP


@dataclass(frozen=True)
class Classes:
    """The classes of a document: what its labels mean, and how new features are written.

    Attributes:
        table: label in lower case -> class index, see ``label_table``.
        names: class name of each label, as it is written.
        colours: RGB of each label.
    """

    table: Mapping[str, int]
    names: Sequence[str] = ("background", "target")
    colours: Mapping[int, Colour] = field(default_factory=lambda: COLOURS)

    def feature(self, kind: str, coordinates: list[Any], label: int) -> dict[str, Any]:
        """Make a feature of a class."""
        name, colour = class_titles(self.names)[label], label_colours(self.names, self.colours)[label]
        return annotation_feature(kind, coordinates, name, colour)

    def check(self, label: int) -> int:
        """Return a label that has a class.

        Raises:
            CvmError: it has none.
        """
        if label not in class_titles(self.names):
            raise CvmError(f"there is no class {label}: the classes are {', '.join(map(str, range(len(self.names))))}")
        return label


Steps = Mapping[int, Entry | None]
"""Entries by key, None where there is none: what a document holds at these keys."""


@dataclass(frozen=True)
class Document:
    """A GeoJSON document: its entries by key, in the order of the keys, and the members of its collection.

    Attributes:
        entries: by key, a number that a feature keeps.
        members: further members of the FeatureCollection.
        next_key, next_id: not used yet.
    """

    entries: Mapping[int, Entry]
    members: Mapping[str, Any]
    next_key: int = 1
    next_id: int = 1

    def points(self) -> Iterator[tuple[int, Point]]:
        """Yield the points with their ids, in the order of the file."""
        for entry in self.entries.values():
            geometry = entry.feature["geometry"] if entry.ids else {}
            if geometry.get("type") in POINT_KINDS:
                for point, (x, y, *_) in zip(entry.ids, parts_of(geometry), strict=True):
                    yield point, Point(float(x), float(y), entry.label)

    def regions(self) -> Iterator[tuple[int, Region]]:
        """Yield the regions with their ids, in the order of the file; outlines as they are written."""
        for entry in self.entries.values():
            geometry = entry.feature["geometry"] if entry.ids else {}
            if geometry.get("type") in REGION_KINDS:
                for region, rings in zip(entry.ids, parts_of(geometry), strict=True):
                    exterior, *holes = (_open(ring) for ring in rings)
                    yield region, Region(exterior, tuple(holes), entry.label)

    def text(self) -> str:
        """Write the document as a FeatureCollection, one feature a line."""
        lines = ",\n".join(json.dumps(entry.feature, ensure_ascii=False) for entry in self.entries.values())
        members = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in self.members.items())
        return f'{{"type": "FeatureCollection", "features": [\n{lines}\n]{members}}}\n'

    def changed(self, changes: Steps) -> "Document":
        """Return the document with other entries at some keys; None removes one."""
        entries = {**self.entries, **{key: entry for key, entry in changes.items() if entry is not None}}
        kept = {key: entries[key] for key in sorted(entries) if key not in changes or changes[key] is not None}
        return replace(self, entries=kept)

    def step_from(self, before: "Document") -> tuple[Steps, Steps]:
        """Return the entries that differ from a document before, as they were and as they are."""
        keys = {*before.entries, *self.entries}
        differ = [key for key in sorted(keys) if before.entries.get(key) is not self.entries.get(key)]
        return {key: before.entries.get(key) for key in differ}, {key: self.entries.get(key) for key in differ}


def read_document(
    text: str, path: Path, classes: Classes, *, keys: Sequence[tuple[int, Sequence[int]]] | None = None
) -> Document:
    """Read a document; every label must have a meaning, so that nothing in it is invisible.

    Args:
        path: the file, for messages.
        keys: key and ids of each feature, as `Document` had them when it wrote this text; None: new ones.

    Raises:
        CvmError: not GeoJSON, malformed coordinates, or unknown labels, with the file.
    """
    try:
        content = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise CvmError(f"{path}: not valid JSON ({' '.join(str(error).split())[:120]})") from None
    features, members = _features(content, path)
    entries: dict[int, Entry] = {}
    ids, numbers = count(1), count(1)
    unknown: dict[str | None, int] = {}
    for place, feature in enumerate(features):
        entry = _entry(feature, path, classes, numbers, ids, unknown)
        key = place + 1
        if keys is not None:
            key, known = keys[place]
            entry = replace(entry, ids=tuple(known))  # as many as before: the text is the same
        entries[key] = entry
    if unknown:
        raise UnknownLabelsError(str(path), unknown, classes.table)
    used = [number for entry in entries.values() for number in entry.ids]
    return Document(entries, members, max(entries, default=0) + 1, max(used, default=0) + 1)


def _features(content: Any, path: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return the features of a document and the further members of its collection."""
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        members = {name: value for name, value in content.items() if name not in ("type", "features")}
        features = content.get("features")
        return list(features) if isinstance(features, list) else [], members
    features = content if isinstance(content, list) else [content]
    if not all(map(is_feature, features)):
        raise CvmError(f"{path}: not GeoJSON; a FeatureCollection, a list of features or one Feature is expected")
    return [
        one if "geometry" in one else {"type": "Feature", "geometry": one, "properties": {}} for one in features
    ], {}


def _entry(
    feature: Any,
    path: Path,
    classes: Classes,
    numbers: Iterator[int],
    ids: Iterator[int],
    unknown: dict[str | None, int],
) -> Entry:
    """Read one feature; adds a label without a meaning to `unknown`."""
    found = list(iter_geojson(feature, path, numbers))
    labels = [_label(one, classes, unknown) for one in found if one.points or one.outlines]
    geometry = feature.get("geometry")
    if len(found) != 1 or not labels or labels[0] == SKIP or not isinstance(geometry, dict):
        return Entry(feature)
    parts = len(found[0].points) + len(found[0].outlines)
    if geometry.get("type") not in POINT_KINDS + REGION_KINDS or parts != len(parts_of(geometry)):
        return Entry(feature)
    return Entry(feature, tuple(next(ids) for _ in range(parts)), labels[0])


def _label(found: ParsedObject, classes: Classes, unknown: dict[str | None, int]) -> int:
    label = look_up(found.label, classes.table, groups=found.groups)
    if label is None:
        name = (found.label or "").strip() or None
        unknown[name] = unknown.get(name, 0) + 1
        return SKIP
    return label


def parts_of(geometry: Mapping[str, Any]) -> list[Any]:
    """Return the positions of a point geometry, or the polygons (lists of rings) of another."""
    coordinates = geometry.get("coordinates")
    if not str(geometry.get("type")).startswith("Multi"):
        return [coordinates]
    return coordinates if isinstance(coordinates, list) else []


def _open(ring: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    """Return the vertices of a ring without the repeated last one."""
    vertices = tuple((float(position[0]), float(position[1])) for position in ring)
    return vertices[:-1] if len(vertices) > 1 and vertices[0] == vertices[-1] else vertices
