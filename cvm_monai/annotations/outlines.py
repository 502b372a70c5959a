"""Trace closed outlines from the corners of regions: one exterior for each region, and its holes."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cvm_monai.annotations.corners import EAST, NORTH, SOUTH, WEST, Scan


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of a region, the union of its pixels.

    Attributes:
        part: the region's number in the scan.
        label: label of its pixels.
        rings: (N, 2) integer vertices (x, y), the exterior first; the first vertex is not repeated at the end.
    """

    part: int
    label: int
    rings: tuple[np.ndarray, ...]


def outlines(scanned: Scan) -> Iterator[Outline]:
    """Yield the regions of a scan in its order, as valid polygons: no ring touches itself, rings touch at points only.

    Where two pixels of a region touch diagonally, the outline turns around the pixel that is not the region's, so that
    the enclosed area becomes a hole, or stays outside, as in the union of the pixels' squares.
    """
    for corners in scanned.corners:
        yield from _closed(corners, scanned.shape)


def _closed(corners: np.ndarray, shape: tuple[int, int]) -> Iterator[Outline]:
    """Yield the regions whose corners these are; arrays of `RECORD`."""
    order, starts = _walks(_following(corners, shape))
    if not len(starts):
        return
    vertices = np.stack([corners["column"][order], corners["row"][order]], 1).astype(np.int64)
    part, label = corners["part"][order[starts]], corners["label"][order[starts]]
    hole = _signed_area(vertices, starts) < 0
    sequence = np.lexsort((np.arange(len(starts)), hole, part))
    ends = np.append(starts[1:], len(order))
    begins = np.flatnonzero(np.diff(part[sequence], prepend=-1))
    for first, last in zip(begins, [*begins[1:], len(sequence)], strict=True):
        rings = [vertices[starts[ring] : ends[ring]] for ring in sequence[first:last]]
        yield Outline(int(part[sequence[first]]), int(label[sequence[first]]), tuple(rings))


def _following(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Find the successor of each turn along its outline.

    The straight pieces of one direction on one line are disjoint, so that their sorted ends follow their sorted starts.
    """
    row, column = corners["row"].astype(np.int64), corners["column"].astype(np.int64)
    along_rows, along_columns = row * (shape[1] + 1) + column, column * (shape[0] + 1) + row
    following = np.empty(len(corners), np.int64)
    for direction, line in ((EAST, along_rows), (WEST, along_rows), (SOUTH, along_columns), (NORTH, along_columns)):
        starts, ends = (np.flatnonzero(corners[turn] == direction) for turn in ("out", "into"))
        following[starts[np.argsort(line[starts])]] = ends[np.argsort(line[ends])]
    one, other = _touching(corners, along_rows)
    following[one], following[other] = following[other], following[one]
    return following


def _touching(corners: np.ndarray, vertex: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of turns of one region at the same vertex, where its pixels touch diagonally."""
    some = np.flatnonzero(corners["touches"])
    some = some[np.lexsort((corners["part"][some], vertex[some]))]
    one, other = some[:-1], some[1:]
    same = (vertex[one] == vertex[other]) & (corners["part"][one] == corners["part"][other])
    return one[same], other[same]


def _walks(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order all turns by outline, one closed outline after the other; return this order and where each one starts."""
    steps, seen = following.data, bytearray(len(following))
    order, starts = array("q"), array("q")
    for turn in range(len(steps)):
        if seen[turn]:
            continue
        starts.append(len(order))
        while not seen[turn]:
            seen[turn] = 1
            order.append(turn)
            turn = steps[turn]
    return np.array(order, np.int64), np.array(starts, np.int64)


def _signed_area(vertices: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Compute twice the signed area of each ring by the shoelace formula."""
    after = np.roll(vertices, -1, axis=0)
    after[np.append(starts[1:], len(vertices)) - 1] = vertices[starts]
    return np.add.reduceat(vertices[:, 0] * after[:, 1] - after[:, 0] * vertices[:, 1], starts)
