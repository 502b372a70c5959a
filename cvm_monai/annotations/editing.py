"""Add, move, relabel and remove the points and regions of a GeoJSON document; each edit returns another document."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from cvm_monai.annotations.document import Classes, Document, Entry, parts_of
from cvm_monai.annotations.geojson import POINT_KINDS, REGION_KINDS, unpacked
from cvm_monai.annotations.model import UNLABELLED, Point, Region
from cvm_monai.annotations.parsed_object import check_position
from cvm_monai.errors import CvmError

OWN = frozenset({"objectType", "classification", "isLocked"})
"""Properties of a feature that new points of its class join; one with a name or measurements is somebody's own."""


def add_point(document: Document, point: Point, classes: Classes) -> Document:
    """Add a point to the last plain feature of its class, or in a new one.

    Raises:
        CvmError: a label without a class, or a position beyond any slide.
    """
    check_position(point.x, point.y, "the point")
    classes.check(point.label)
    if point.label == UNLABELLED:
        raise CvmError("a point cannot be an exclusion: give it a class")
    position = [point.x, point.y]
    for key, entry in reversed(list(document.entries.items())):
        if entry.ids and entry.label == point.label and _is_plain(entry.feature):
            parts = [*parts_of(entry.feature["geometry"]), position]
            grown = _with_parts(entry, parts, (*entry.ids, document.next_id))
            return replace(document.changed({key: grown}), next_id=document.next_id + 1)
    feature = classes.feature("MultiPoint", [position], point.label)
    return _with_new(document, [Entry(feature, (document.next_id,), point.label)])


def add_regions(document: Document, regions: Iterable[Region], classes: Classes) -> Document:
    """Add each region as a feature.

    Raises:
        CvmError: a label without a class.
    """
    added = []
    for number, region in enumerate(regions):
        rings = [[list(vertex) for vertex in (*ring, ring[0])] for ring in (region.exterior, *region.holes)]
        feature = classes.feature("Polygon", rings, classes.check(region.label))
        added.append(Entry(feature, (document.next_id + number,), region.label))
    return _with_new(document, added)


def move_point(document: Document, point: int, x: float, y: float) -> Document:
    """Move a point to another position.

    Raises:
        CvmError: no such point, or a position beyond any slide.
    """
    check_position(x, y, "the point")
    key, entry, place = _find(document, point, POINT_KINDS, "point")
    parts = list(parts_of(entry.feature["geometry"]))
    parts[place] = [x, y, *parts[place][2:]]
    return document.changed({key: _with_parts(entry, parts, entry.ids)})


def remove(document: Document, item: int, *, kind: Literal["point", "region"]) -> Document:
    """Remove a point or a region (`kind`); a feature without any left is removed with it.

    Raises:
        CvmError: no such point or region.
    """
    kinds = POINT_KINDS if kind == "point" else REGION_KINDS
    key, entry, place = _find(document, item, kinds, kind)
    if len(entry.ids) == 1:
        return document.changed({key: None})
    parts = list(parts_of(entry.feature["geometry"]))
    del parts[place]
    return document.changed({key: _with_parts(entry, parts, (*entry.ids[:place], *entry.ids[place + 1 :]))})


def relabel(document: Document, item: int, label: int, classes: Classes) -> Document:
    """Give a point or a region another class; one of several in a feature leaves it, with its properties.

    Raises:
        CvmError: no such point or region, or a label without a class.
    """
    classes.check(label)
    key, entry, place = _find(document, item, POINT_KINDS + REGION_KINDS, "point or region")
    if entry.label == label:
        return document
    part = parts_of(entry.feature["geometry"])[place]
    if entry.feature["geometry"]["type"] in POINT_KINDS:
        if label == UNLABELLED:
            raise CvmError("a point cannot be an exclusion: give it a class")
        if _is_plain(entry.feature):
            without = remove(document, item, kind="point")
            added = add_point(replace(without, next_id=item), Point(part[0], part[1], label), classes)
            return replace(added, next_id=document.next_id)
    feature = _reclassified(entry.feature, label, classes)
    if len(entry.ids) == 1:
        return document.changed({key: Entry(feature, entry.ids, label)})
    kind = str(feature["geometry"]["type"]).removeprefix("Multi")
    feature = {name: value for name, value in feature.items() if name != "id"}
    feature["geometry"] = {**feature["geometry"], "type": kind, "coordinates": part}
    without = remove(document, item, kind="point" if kind in POINT_KINDS else "region")
    added = _with_new(replace(without, next_id=item), [Entry(feature, (item,), label)])
    return replace(added, next_id=document.next_id)


def _reclassified(feature: Mapping[str, Any], label: int, classes: Classes) -> dict[str, Any]:
    """Return a feature with another class and its other properties as they are."""
    properties = dict(feature.get("properties") or {})
    shown = unpacked(properties.get("classification"))
    kept = {name: value for name, value in shown.items() if name != "names"} if isinstance(shown, dict) else {}
    made = classes.feature("Point", [], label)["properties"]["classification"]
    kept.pop("colorRGB", None)
    return {**feature, "properties": {**properties, "classification": {**kept, **made}}}


def _find(document: Document, item: int, kinds: Sequence[str], what: str) -> tuple[int, Entry, int]:
    """Return key, entry and place in its parts of a point or region."""
    for key, entry in document.entries.items():
        if item in entry.ids and entry.feature["geometry"]["type"] in kinds:
            return key, entry, entry.ids.index(item)
    raise CvmError(f"there is no {what} {item}: somebody removed it")


def _with_new(document: Document, entries: Sequence[Entry]) -> Document:
    """Return the document with further entries at its end."""
    changed = document.changed({document.next_key + number: entry for number, entry in enumerate(entries)})
    used = sum(len(entry.ids) for entry in entries)
    return replace(changed, next_key=document.next_key + len(entries), next_id=document.next_id + used)


def _with_parts(entry: Entry, parts: list[Any], ids: tuple[int, ...]) -> Entry:
    """Return an entry with other points or polygons; one of a single kind becomes one of several where it must."""
    geometry = entry.feature["geometry"]
    several = str(geometry["type"]).startswith("Multi")
    kind = geometry["type"] if several or len(parts) == 1 else f"Multi{geometry['type']}"
    coordinates = parts if str(kind).startswith("Multi") else parts[0]
    feature = {**entry.feature, "geometry": {**geometry, "type": kind, "coordinates": coordinates}}
    return Entry(feature, ids, entry.label)


def _is_plain(feature: Mapping[str, Any]) -> bool:
    """Whether a feature is a set of points with a class and nothing else."""
    properties = feature.get("properties")
    kind = feature["geometry"]["type"]
    return kind == "MultiPoint" and isinstance(properties, dict) and OWN.issuperset(properties)
