"""A polygon with holes as one ring, for formats that know no holes: each hole is reached by a cut of no width."""

from collections.abc import Sequence

from cvm_monai.annotations.model import Region, Ring
from cvm_monai.errors import CvmError

Vertex = tuple[float, float]


def keyhole_ring(region: Region) -> Ring:
    """One ring that covers what the region covers, by the even-odd and by the non-zero rule.

    From the leftmost vertex of each hole a horizontal cut goes to the nearest outline on its left, and back.
    """
    ring = list(_turned(region.exterior, clockwise=False))
    holes = [_from_leftmost(_turned(hole, clockwise=True)) for hole in region.holes]
    for hole in sorted(holes):  # from left to right: what lies on a hole's left is part of the ring already
        edge, crossing = _nearest_left(ring, hole[0])
        ring[edge + 1 : edge + 1] = [crossing, *hole, hole[0], crossing]
    return tuple(ring)


def _turned(ring: Sequence[Vertex], *, clockwise: bool) -> Sequence[Vertex]:
    """The ring in one sense of rotation."""
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, (*ring[1:], ring[0]), strict=True))
    return ring if (area < 0) == clockwise else tuple(reversed(ring))


def _from_leftmost(ring: Sequence[Vertex]) -> list[Vertex]:
    first = min(range(len(ring)), key=lambda index: ring[index])
    return [*ring[first:], *ring[:first]]


def _nearest_left(ring: Sequence[Vertex], vertex: Vertex) -> tuple[int, Vertex]:
    """Index of the edge of a ring that a ray from a vertex to the left meets first, and where."""
    x, y = vertex
    best, found = -1, -float("inf")
    for index, (x0, y0) in enumerate(ring):
        x1, y1 = ring[(index + 1) % len(ring)]
        if (y0 <= y) == (y1 <= y):
            continue
        crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
        if found < crossing <= x:
            best, found = index, crossing
    if best < 0:
        raise CvmError(f"a hole at ({x:g}, {y:g}) lies outside its region")
    return best, (found, y)
