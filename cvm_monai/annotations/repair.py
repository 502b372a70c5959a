"""Make polygons valid: split self-intersecting outlines into valid parts, leave out those without area.

A repaired outline covers what the even-odd rule covers, as regions are rasterised: repair changes no pixel.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely

from cvm_monai.annotations.model import Region, Ring
from cvm_monai.annotations.parsed_object import Outline
from cvm_monai.errors import CvmError

REPAIRED = "repaired"
NO_AREA = "zero area"

MOST_CROSSINGS = 5_000
"""Largest number of self-intersections of an outline that is repaired; so many take a second."""

TOGETHER = 64
"""Largest number of edges whose crossings are searched for together, fewer at first: an edge may cross all others."""


def valid_regions(
    outlines: Sequence[tuple[Outline, int]], counts: Counter[str], *, places: Sequence[str] = ()
) -> Iterator[Region]:
    """Yield a region for each outline, several where it splits into parts; a valid one keeps its vertices.

    Args:
        outlines: rings (exterior, then holes) and label; checked together, for speed.
        counts: incremented for ``repaired`` and ``zero area``, by outline.
        places: file and object of each outline, for error messages.

    Raises:
        CvmError: an outline that crosses itself more than 5,000 times.
    """
    places = places or ["an outline"] * len(outlines)
    cleaned = [(_rings(rings), label, place) for (rings, label), place in zip(outlines, places, strict=True)]
    kept = [item for item in cleaned if item[0]]
    if len(kept) < len(cleaned):
        counts[NO_AREA] += len(cleaned) - len(kept)
    for (rings, label, place), sound in zip(kept, _sound([rings for rings, _, _ in kept]), strict=True):
        if sound:
            exterior, *holes = (_ring(ring) for ring in rings)
            yield Region(exterior, tuple(holes), label)
            continue
        _check_crossings(rings, place)
        parts = _repair(rings)
        counts[REPAIRED if parts else NO_AREA] += 1
        yield from (region_of(part, label) for part in parts)


def region_of(polygon: Any, label: int) -> Region:
    """Convert a shapely polygon to a region."""
    rings = (polygon.exterior, *polygon.interiors)
    exterior, *holes = (_ring(shapely.get_coordinates(ring)[:-1]) for ring in rings)
    return Region(exterior, tuple(holes), label)


def polygons(geometry: Any) -> list[Any]:
    """List the polygons in a geometry of any type, also those without area."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygons(part)]


def _rings(rings: Outline) -> Outline:
    """Remove holes with fewer than three vertices; empty if the exterior has fewer than three."""
    if not rings or len(rings[0]) < 3:
        return ()
    return tuple(ring for ring in rings if len(ring) >= 3)


def _ring(vertices: np.ndarray) -> Ring:
    return tuple(map(tuple, vertices.tolist()))


def _sound(outlines: Sequence[Outline]) -> np.ndarray:
    """Decide which outlines are valid and have an area, (N,) bool."""
    if not outlines:
        return np.empty(0, dtype=bool)
    rings = [ring for outline in outlines for ring in outline]
    ring_of_vertex = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    outline_of_ring = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    lines = shapely.linearrings(np.concatenate(rings), indices=ring_of_vertex)
    drawn = shapely.polygons(lines, indices=outline_of_ring)
    return shapely.is_valid(drawn) & (shapely.area(drawn) > 0)


def _check_crossings(rings: Outline, place: str) -> None:
    """Refuse an outline with too many self-intersections, before the repair.

    Raises:
        CvmError: naming the object.
    """
    count = 0
    for ring in rings:
        edges = shapely.linestrings(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1))
        tree = shapely.STRtree(edges)  # queried by bounding boxes only: its predicates take most of the time
        start, together = 0, 1
        while start < len(edges):
            one, other = tree.query(edges[start : start + together])
            count += _crossing(ring, one + start, other)
            start, together = start + together, min(TOGETHER, 2 * together)
            if count > MOST_CROSSINGS:
                raise CvmError(
                    f"{place}: the outline of {len(ring)} vertices crosses itself more than {MOST_CROSSINGS} times; "
                    "draw it again, or check that its vertices are in order"
                )


def _crossing(ring: np.ndarray, one: np.ndarray, other: np.ndarray) -> int:
    """Count the pairs of edges, given by the indices of their first vertices, that cross in the interior of both."""
    one, other = one[one < other], other[one < other]
    a, b, c, d = (ring[index % len(ring)] for index in (one, one + 1, other, other + 1))

    def side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
        (x, y), (u, v) = (end - start).T, (point - start).T
        return np.sign(x * v - y * u)

    apart = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return int(np.count_nonzero(apart))


def _repair(rings: Outline) -> list[Any]:
    """Make polygons that cover the exterior minus the holes, each ring filled by the even-odd rule."""
    covered, *holes = (_areas(ring) for ring in rings)
    for hole in holes:
        covered = shapely.difference(covered, hole)
    return [part for part in polygons(covered) if part.area > 0]


def _areas(ring: np.ndarray) -> Any:
    """Compute the area of a ring by the even-odd rule: the faces formed by its edges with an odd winding number."""
    faces = shapely.polygonize([shapely.node(shapely.linestrings(np.concatenate([ring, ring[:1]])))])
    parts = shapely.get_parts(faces)
    points = shapely.get_coordinates(shapely.point_on_surface(parts))
    return shapely.union_all(parts[[_inside(point, ring) for point in points]])


def _inside(point: np.ndarray, ring: np.ndarray) -> bool:
    """Whether a point is inside a ring: an odd number of edges lies on its left."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    over = (y0 > point[1]) != (y1 > point[1])
    x = x0[over] + (point[1] - y0[over]) * (x1[over] - x0[over]) / (y1[over] - y0[over])
    return bool(np.count_nonzero(x < point[0]) % 2)
