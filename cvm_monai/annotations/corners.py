"""Find the corners of the connected components of a label map, strip by strip.

Pixel (row, column) is the square [column, column + 1) x [row, row + 1). A region is a 4-connected set of pixels of one
label; its outline turns only at pixel corners, and the four pixels around a corner determine the turn. A strip of rows
therefore needs only the last row of the strip above it.

Outlines are followed with the region on the right, y pointing down: an exterior has a positive area by the shoelace
formula in (x, y), a hole a negative one.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.annotations.spool import RECORD, CornerSpool
from cvm_monai.errors import CvmError

Strip = tuple[int, np.ndarray] | tuple[int, np.ndarray, np.ndarray]
"""First row, labels (h, W) uint8 and, optionally, the probability (h, W), uint8 (255 = 1) or floating."""

AT_ONCE = 1 << 23
"""Pixels whose connected components are found together: about 20 bytes of memory for each."""

BLOCK = 1 << 20
"""Of these, pixels whose corners are found together: about 40 bytes for each."""

EAST, SOUTH, WEST, NORTH = range(4)

NW, NE, SW, SE = range(4)
_CONVEX = ((SOUTH, WEST), (WEST, NORTH), (EAST, SOUTH), (NORTH, EAST))
"""Direction into and out of the corner of a pixel that lies NW, NE, SW or SE of it and has no side neighbour there."""
_CONCAVE = ((WEST, SOUTH), (NORTH, WEST), (SOUTH, EAST), (EAST, NORTH))
"""The same where both side neighbours of that pixel belong to the region and only the pixel across does not."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The corners and the component statistics of a whole label map.

    Attributes:
        corners: corners of the regions, sorted into groups; must be closed.
        pixels: (regions,) number of pixels; regions count from 0, in the order of their first pixel.
        probability: (regions,) sum of the probability over the pixels, or None.
        shape: (height, width) of the map.
    """

    corners: CornerSpool
    pixels: np.ndarray
    probability: np.ndarray | None
    shape: tuple[int, int]


def scan(strips: Iterable[Strip], *, skip: Iterable[int], folder: Path | None = None) -> Scan:
    """Find the corners, sizes and probabilities of the regions of a label map given from top to bottom.

    Args:
        strips: strips of any heights, without a gap.
        skip: labels that make no region.
        folder: folder of the temporary files, see `CornerSpool`.

    Raises:
        CvmError: labels of another type, a gap between strips, or probabilities of another shape.
        OSError: the temporary files have no room.
    """
    with ExitStack() as stack:
        spool = stack.enter_context(closing(CornerSpool(folder)))
        reader = _Reader(skip, spool)
        for first, labels, *probability in strips:
            beside = probability[0] if probability else None
            reader.check(first, labels, beside)
            height = max(1, AT_ONCE // max(1, labels.shape[1]))
            for row in range(0, len(labels), height):
                some = slice(row, row + height)
                reader.add(labels[some], None if beside is None else beside[some])
        found = reader.close()
        stack.pop_all()
        return found


class _Reader:
    """The state after reading some rows of a label map; components are numbered from 1 within the rows read."""

    def __init__(self, skip: Iterable[int], spool: CornerSpool) -> None:
        self.keep = np.arange(1, 257, dtype=np.uint16)
        self.keep[list(skip)] = 0
        self.rows = self.width = 0
        self.values = self.parts = np.zeros((1, 0), np.int64)  # of the last row read
        self.spool = spool
        self.links: list[np.ndarray] = []
        self.pixels = [np.zeros(1, np.int64)]
        self.sums: list[np.ndarray] | None = None

    def add(self, labels: np.ndarray, probability: np.ndarray | None) -> None:
        """Read the next rows."""
        from skimage.measure import label

        if not labels.size:
            return
        values = self.keep[labels]
        parts = label(values, connectivity=1, background=0)
        count = int(parts.max())
        self.pixels.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
        if self.sums is not None and probability is not None:
            sums = np.zeros(count + 1)
            for rows in _blocks(parts.shape):
                np.add.at(sums, parts[rows].ravel(), _fraction(probability[rows]).ravel())
            self.sums.append(sums[1:])
        np.add(parts, sum(map(len, self.pixels[:-1])) - 1, out=parts, where=parts > 0)
        self._scan(values, parts)
        self.rows += len(labels)

    def close(self) -> Scan:
        """Finish the last row and number the components of the whole map."""
        if self.rows:
            self._scan(np.zeros((1, self.width), np.uint16), np.zeros((1, self.width), np.int64))
        pixels = np.concatenate(self.pixels)
        links = np.concatenate([*self.links, np.zeros((0, 2), np.int64)])
        whole = _numbered(links, len(pixels))
        sums = None if self.sums is None else np.bincount(whole, weights=np.concatenate(self.sums))[1:]
        counted = np.bincount(whole, weights=pixels).astype(np.int64)[1:]
        self.spool.sort(whole - 1, len(counted))
        return Scan(self.spool, counted, sums, (self.rows, self.width))

    def check(self, first: int, labels: np.ndarray, probability: np.ndarray | None) -> None:
        """Check that a strip continues the rows above."""
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise CvmError(f"labels must be (H, W) uint8 class indices, got {labels.shape} {labels.dtype}")
        if first != self.rows:
            raise CvmError(f"a strip begins at row {first}, but {self.rows} rows were read: give all rows in order")
        if probability is not None and probability.shape != labels.shape:
            raise CvmError(f"the probability has shape {probability.shape}, the labels beside it {labels.shape}")
        if not first:
            self.width = labels.shape[1]
            self.values, self.parts = np.zeros((1, self.width), np.uint16), np.zeros((1, self.width), np.int64)
            self.sums = None if probability is None else [np.zeros(1)]
        if labels.shape[1] != self.width:
            raise CvmError(f"the strip at row {first} is {labels.shape[1]} px wide, those above {self.width}")
        if (probability is None) != (self.sums is None):
            raise CvmError(
                f"the strip at row {first} must have a probability if those above have one, and none otherwise"
            )

    def _scan(self, values: np.ndarray, parts: np.ndarray) -> None:
        """Find the corners above and within some rows, and the components that continue in them."""
        joined = (self.values[0] == values[0]) & (values[0] > 0)
        self.links.append(np.unique(np.stack([self.parts[0][joined], parts[0][joined]], 1), axis=0))
        kinds, corners = [], []
        for rows in _blocks(values.shape):
            some, parts_of_some = values[rows], parts[rows]
            kind, found = _turns(np.concatenate([self.values, some]), np.concatenate([self.parts, parts_of_some]))
            found["row"] += self.rows + rows.start
            kinds.append(kind)
            corners.append(found)
            self.values, self.parts = some[-1:].copy(), parts_of_some[-1:].copy()
        self.spool.append(np.concatenate(corners)[np.argsort(np.concatenate(kinds), kind="stable")])


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Split the rows of (h, W) pixels into blocks."""
    step = max(1, BLOCK // max(1, shape[1]))
    return (slice(first, first + step) for first in range(0, shape[0], step))


def _turns(values: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the corners on the h lines between the rows of (h + 1, W) labels (0 = none) and component numbers.

    Sorted by kind (one or three pixels of the region at the corner, and the quadrant of the odd pixel), then by
    position; the kinds are returned too.
    """
    values = np.pad(values, ((0, 0), (1, 1)))
    beside, below = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    straight = (beside[:-1] & beside[1:]) | (below[:, :-1] & below[:, 1:])
    row, column = np.divmod(np.flatnonzero(~straight), straight.shape[1])
    around = np.stack(
        [values[row, column], values[row, column + 1], values[row + 1, column], values[row + 1, column + 1]]
    )
    across, beyond, diagonal = around[[NE, NW, SE, SW]], around[[SW, SE, NW, NE]], around[[SE, SW, NE, NW]]
    convex = (around > 0) & (across != around) & (beyond != around)
    concave = (around > 0) & (across == around) & (beyond == around)
    kind, vertex = np.nonzero(np.concatenate([convex, concave]))  # of (8, K)
    quadrant = kind % 4
    found = np.empty(len(kind), RECORD)
    found["into"], found["out"] = np.array(_CONVEX + _CONCAVE, dtype=np.uint8)[kind].T
    found["row"], found["column"] = row[vertex], column[vertex]
    found["part"] = parts[row[vertex] + quadrant // 2, column[vertex] + quadrant % 2 - 1]
    found["label"] = around[quadrant, vertex] - 1
    found["touches"] = (convex & (diagonal == around))[quadrant, vertex] & (kind < 4)
    return kind.astype(np.uint8), found


def _numbered(links: np.ndarray, count: int) -> np.ndarray:
    """Map each of `count` parts to its linked component, numbered in the order of their first parts; 0 stays 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(count, count))
    _, found = connected_components(graph, directed=False)
    _, first = np.unique(found, return_index=True)
    order = np.empty_like(first)
    order[np.argsort(first)] = np.arange(len(first))
    return order[found]


def _fraction(probability: np.ndarray) -> np.ndarray:
    """Convert a probability to floats from 0 to 1."""
    return probability / 255 if probability.dtype == np.uint8 else probability
