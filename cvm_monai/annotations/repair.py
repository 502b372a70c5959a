"""Polygons made valid: outlines that cross themselves are cut into parts that do not, those without area are left out.

A repaired outline covers what the even-odd rule covers, which is how regions are drawn: repair changes no pixel.
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
"""Crossings of one outline with itself that are repaired; these take a second."""

TOGETHER = 64
"""Edges whose crossings are looked for at once, few at first: one edge may cross all the others."""


def valid_regions(
    outlines: Sequence[tuple[Outline, int]], counts: Counter[str], *, places: Sequence[str] = ()
) -> Iterator[Region]:
    """A region for each outline and its label, several for one that falls into parts; a valid one keeps its vertices.

    Args:
        outlines: rings (exterior, then holes) and label; checked together, which is what makes it fast.
        counts: gains ``repaired`` and ``zero area``, counted by outline.
        places: file and object of each outline, for the sentence.

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


def _check_crossings(rings: Outline, place: str) -> None:
    """Refuse an outline that takes too long to repair, before the repair.

    Raises:
        CvmError: naming the object.
    """
    count = 0
    for ring in rings:
        edges = shapely.linestrings(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1))
        tree = shapely.STRtree(edges)  # bounds alone: its predicates take most of the time
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
    """The pairs of edges, by the numbers of their first vertices, that cross within both; each pair counts once."""
    one, other = one[one < other], other[one < other]
    a, b, c, d = (ring[index % len(ring)] for index in (one, one + 1, other, other + 1))

    def side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
        (x, y), (u, v) = (end - start).T, (point - start).T
        return np.sign(x * v - y * u)

    apart = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return int(np.count_nonzero(apart))


def _repair(rings: Outline) -> list[Any]:
    """The polygons that cover what the exterior covers and no hole does, each ring by the even-odd rule."""
    covered, *holes = (_areas(ring) for ring in rings)
    for hole in holes:
        covered = shapely.difference(covered, hole)
    return [part for part in polygons(covered) if part.area > 0]


def _areas(ring: np.ndarray) -> Any:
    """What a ring covers by the even-odd rule: those of the faces that its edges form around which it winds oddly."""
    faces = shapely.polygonize([shapely.node(shapely.linestrings(np.concatenate([ring, ring[:1]])))])
    parts = shapely.get_parts(faces)
    points = shapely.get_coordinates(shapely.point_on_surface(parts))
    return shapely.union_all(parts[[_inside(point, ring) for point in points]])


def _inside(point: np.ndarray, ring: np.ndarray) -> bool:
    """Whether an odd number of a ring's edges lies on the left of a point."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    over = (y0 > point[1]) != (y1 > point[1])
    x = x0[over] + (point[1] - y0[over]) * (x1[over] - x0[over]) / (y1[over] - y0[over])
    return bool(np.count_nonzero(x < point[0]) % 2)
