"""Closed outlines from the corners of regions: one exterior for each region, and its holes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cvm_monai.annotations.corners import EAST, NORTH, SOUTH, WEST, Corners, Scan


@dataclass(frozen=True, eq=False)
class Outline:
    """A region as the union of its pixels.

    Attributes:
        part: its number in the scan.
        label: of its pixels.
        rings: (N, 2) integer vertices (x, y), the exterior first; the first vertex is not repeated at the end.
    """

    part: int
    label: int
    rings: tuple[np.ndarray, ...]


def outlines(scanned: Scan) -> Iterator[Outline]:
    """The regions of a scan in its order, as valid polygons: rings touch themselves nowhere, each other at points only.

    Where a region meets itself across a corner of pixels the walk goes around the pixel that is not its own, so that
    what lies between becomes a hole, or stays outside, as in the union of the pixels' squares.
    """
    corners = scanned.corners
    order, starts = _walks(_following(corners, scanned.shape))
    if not len(starts):
        return
    vertices = np.stack([corners.column[order], corners.row[order]], 1).astype(np.int64)
    part, label = corners.part[order[starts]], corners.label[order[starts]]
    hole = _signed_area(vertices, starts) < 0
    sequence = np.lexsort((np.arange(len(starts)), hole, part))
    ends = np.append(starts[1:], len(order))
    begins = np.flatnonzero(np.diff(part[sequence], prepend=-1))
    for first, last in zip(begins, [*begins[1:], len(sequence)], strict=True):
        rings = [vertices[starts[ring] : ends[ring]] for ring in sequence[first:last]]
        yield Outline(int(part[sequence[first]]), int(label[sequence[first]]), tuple(rings))


def _following(corners: Corners, shape: tuple[int, int]) -> np.ndarray:
    """The turn that each turn leads to.

    The straight pieces of one direction on one line are disjoint, so that their sorted ends follow their sorted starts.
    """
    along_rows = corners.row.astype(np.int64) * (shape[1] + 1) + corners.column
    along_columns = corners.column.astype(np.int64) * (shape[0] + 1) + corners.row
    following = np.empty(len(corners.row), np.int64)
    for direction, line in ((EAST, along_rows), (WEST, along_rows), (SOUTH, along_columns), (NORTH, along_columns)):
        starts, ends = (np.flatnonzero(turn == direction) for turn in (corners.out, corners.into))
        following[starts[np.argsort(line[starts])]] = ends[np.argsort(line[ends])]
    one, other = corners.touching[corners.part[corners.touching[:, 0]] == corners.part[corners.touching[:, 1]]].T
    following[one], following[other] = following[other], following[one]
    return following


def _walks(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All turns in the order of their walks, one closed walk after the other, and where each of them starts."""
    steps, seen = following.tolist(), bytearray(len(following))
    order: list[int] = []
    starts: list[int] = []
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
    """Twice the area of each ring by the shoelace formula."""
    after = np.roll(vertices, -1, axis=0)
    after[np.append(starts[1:], len(vertices)) - 1] = vertices[starts]
    return np.add.reduceat(vertices[:, 0] * after[:, 1] - after[:, 0] * vertices[:, 1], starts)
