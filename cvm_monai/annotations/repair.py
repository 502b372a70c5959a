"""Polygons made valid: outlines that cross themselves are cut into parts that do not, those without area are left out.

A repaired outline covers what the even-odd rule covers, which is how regions are drawn: repair changes no pixel.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely

from cvm_monai.annotations.found import Outline
from cvm_monai.annotations.model import Region, Ring

REPAIRED = "repaired"
NO_AREA = "zero area"


def valid_regions(outlines: Sequence[tuple[Outline, int]], counts: Counter[str]) -> Iterator[Region]:
    """A region for each outline and its label, several for one that falls into parts; a valid one keeps its vertices.

    Args:
        outlines: rings (exterior, then holes) and label; checked together, which is what makes it fast.
        counts: gains ``repaired`` and ``zero area``, counted by outline.
    """
    cleaned = [(_rings(rings), label) for rings, label in outlines]
    kept = [(rings, label) for rings, label in cleaned if rings]
    if len(kept) < len(cleaned):
        counts[NO_AREA] += len(cleaned) - len(kept)
    for (rings, label), sound in zip(kept, _sound([rings for rings, _ in kept]), strict=True):
        if sound:
            exterior, *holes = (_ring(ring) for ring in rings)
            yield Region(exterior, tuple(holes), label)
            continue
        parts = _repair(rings)
        counts[REPAIRED if parts else NO_AREA] += 1
        yield from (region_of(part, label) for part in parts)


def region_of(polygon: Any, label: int) -> Region:
    """A polygon of shapely's as a region."""
    rings = (polygon.exterior, *polygon.interiors)
    exterior, *holes = (_ring(shapely.get_coordinates(ring)[:-1]) for ring in rings)
    return Region(exterior, tuple(holes), label)


def polygons(geometry: Any) -> list[Any]:
    """The polygons in a geometry of any kind, also those without area."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygons(part)]


def _rings(rings: Outline) -> Outline:
    """Without the holes that have fewer than three vertices; empty where the exterior has."""
    if not rings or len(rings[0]) < 3:
        return ()
    return tuple(ring for ring in rings if len(ring) >= 3)


def _ring(vertices: np.ndarray) -> Ring:
    return tuple(map(tuple, vertices.tolist()))


def _sound(outlines: Sequence[Outline]) -> np.ndarray:
    """(N,) bool: outlines that are valid and have an area."""
    if not outlines:
        return np.empty(0, dtype=bool)
    rings = [ring for outline in outlines for ring in outline]
    ring_of_vertex = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    outline_of_ring = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    lines = shapely.linearrings(np.concatenate(rings), indices=ring_of_vertex)
    drawn = shapely.polygons(lines, indices=outline_of_ring)
    return shapely.is_valid(drawn) & (shapely.area(drawn) > 0)


def _repair(rings: Outline) -> list[Any]:
    """The polygons that cover what the exterior covers and no hole does, each ring by the even-odd rule."""
    covered, *holes = (_areas(ring) for ring in rings)
    for hole in holes:
        covered = shapely.difference(covered, hole)
    return [part for part in polygons(covered) if part.area > 0]


def _areas(ring: np.ndarray) -> Any:
    """What a ring covers, whatever lines remain left out."""
    return shapely.MultiPolygon(polygons(shapely.make_valid(shapely.polygons(ring))))
