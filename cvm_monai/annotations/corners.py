"""The corners of the connected regions of a label map, found strip by strip.

Pixel (row, column) is the square [column, column + 1) x [row, row + 1). A region is a 4-connected set of pixels of one
label; its outline turns only at corners of pixels, and each turn can be told from the four pixels that meet there. So a
strip of rows needs the last row of the strip above it and nothing else.

Directions are those of a walk with the region on its right hand, y pointing down: an exterior has a positive area by
the shoelace formula in (x, y), a hole a negative one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Strip = tuple[int, np.ndarray] | tuple[int, np.ndarray, np.ndarray]
"""First row, labels (h, W) uint8, and where it is asked for the probability (h, W), uint8 (255 = 1) or floating."""

EAST, SOUTH, WEST, NORTH = range(4)

NW, NE, SW, SE = range(4)
_CONVEX = ((SOUTH, WEST), (WEST, NORTH), (EAST, SOUTH), (NORTH, EAST))
"""Direction into and out of the corner of a pixel that lies NW, NE, SW or SE of it and has no side neighbour there."""
_CONCAVE = ((WEST, SOUTH), (NORTH, WEST), (SOUTH, EAST), (EAST, NORTH))
"""The same where both side neighbours of that pixel belong to the region and only the pixel across does not."""


class Corners(NamedTuple):
    """Turns of outlines, in no order: their vertex, the directions in and out, and the region they belong to.

    ``touching`` holds the indices of two turns at one vertex where a label meets itself across a corner.
    """

    row: np.ndarray
    column: np.ndarray
    into: np.ndarray
    out: np.ndarray
    part: np.ndarray
    label: np.ndarray
    touching: np.ndarray


@dataclass(frozen=True, eq=False)
class Scan:
    """A whole label map, once read.

    Attributes:
        corners: ``part`` counts the regions from 0, in the order of their first pixel.
        pixels: (regions,) of each region.
        probability: (regions,) its sum over the pixels, or None.
        shape: (height, width) of the map.
    """

    corners: Corners
    pixels: np.ndarray
    probability: np.ndarray | None
    shape: tuple[int, int]


def scan(strips: Iterable[Strip], *, skip: Iterable[int]) -> Scan:
    """Find the corners, sizes and probabilities of the regions of a label map that comes from top to bottom.

    Args:
        strips: of any heights, without a gap.
        skip: labels of which no region is made.

    Raises:
        ValueError: labels of another kind, a gap between strips, or probabilities of another shape.
    """
    reader = _Reader(skip)
    for first, labels, *probability in strips:
        reader.add(first, labels, probability[0] if probability else None)
    return reader.close()


class _Reader:
    """What is known of a label map after some of its rows; parts are numbered from 1 within the rows read."""

    def __init__(self, skip: Iterable[int]) -> None:
        self.keep = np.arange(1, 257, dtype=np.uint16)
        self.keep[list(skip)] = 0
        self.rows = self.width = self.turns = 0
        self.values = self.parts = np.zeros((1, 0), np.int64)  # of the last row read
        self.found: list[Corners] = []
        self.links: list[np.ndarray] = []
        self.pixels = [np.zeros(1, np.int64)]
        self.sums: list[np.ndarray] | None = None

    def add(self, first: int, labels: np.ndarray, probability: np.ndarray | None) -> None:
        """Read the strip that begins at row `first`."""
        from skimage.measure import label

        self._check(first, labels, probability)
        if not labels.size:
            return
        values = self.keep[labels]
        parts = label(values, connectivity=1, background=0)
        count = int(parts.max())
        self.pixels.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
        if self.sums is not None and probability is not None:
            sums = np.bincount(parts.ravel(), weights=_fraction(probability).ravel(), minlength=count + 1)
            self.sums.append(sums[1:])
        parts[parts > 0] += sum(map(len, self.pixels[:-1])) - 1
        self._scan(values, parts)
        self.rows += len(labels)

    def close(self) -> Scan:
        """Close the last row and number the parts of the whole map."""
        if self.rows:
            self._scan(np.zeros((1, self.width), np.uint16), np.zeros((1, self.width), np.int64))
        pixels = np.concatenate(self.pixels)
        links = np.concatenate([*self.links, np.zeros((0, 2), np.int64)])
        whole = _numbered(links, len(pixels))
        corners = Corners(*(np.concatenate(parts) for parts in zip(_none(), *self.found, strict=True)))
        sums = None if self.sums is None else np.bincount(whole, weights=np.concatenate(self.sums))[1:]
        counted = np.bincount(whole, weights=pixels).astype(np.int64)[1:]
        return Scan(corners._replace(part=whole[corners.part] - 1), counted, sums, (self.rows, self.width))

    def _check(self, first: int, labels: np.ndarray, probability: np.ndarray | None) -> None:
        """Refuse what does not continue the rows above."""
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"labels must be (H, W) uint8 class indices, got {labels.shape} {labels.dtype}")
        if first != self.rows:
            raise ValueError(f"a strip begins at row {first}, but {self.rows} rows were read: give all rows in order")
        if probability is not None and probability.shape != labels.shape:
            raise ValueError(f"the probability has shape {probability.shape}, the labels beside it {labels.shape}")
        if not first:
            self.width = labels.shape[1]
            self.values, self.parts = np.zeros((1, self.width), np.uint16), np.zeros((1, self.width), np.int64)
            self.sums = None if probability is None else [np.zeros(1)]
        if labels.shape[1] != self.width:
            raise ValueError(f"the strip at row {first} is {labels.shape[1]} px wide, those above {self.width}")
        if (probability is None) != (self.sums is None):
            raise ValueError(f"the strip at row {first} differs from those above in that it has a probability or none")

    def _scan(self, values: np.ndarray, parts: np.ndarray) -> None:
        """Find the corners above and within some rows, and the parts that continue in them."""
        joined = (self.values[0] == values[0]) & (values[0] > 0)
        self.links.append(np.unique(np.stack([self.parts[0][joined], parts[0][joined]], 1), axis=0))
        corners = _turns(np.concatenate([self.values, values]), np.concatenate([self.parts, parts]))
        corners.row[...] += self.rows
        corners.touching[...] += self.turns
        self.found.append(corners)
        self.turns += len(corners.row)
        self.values, self.parts = values[-1:], parts[-1:]


def _turns(values: np.ndarray, parts: np.ndarray) -> Corners:
    """The corners on the h lines between the rows of (h + 1, W) labels (0 = none) and of the parts they belong to."""
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
    turn = np.concatenate([convex, concave])  # (8, K)
    kind, vertex = np.nonzero(turn)
    number = np.cumsum(turn).reshape(turn.shape) - 1
    pairs = [
        np.stack([number[one], number[other]], 1)[convex[one] & (diagonal[one] == around[one])]
        for one, other in ((NW, SE), (NE, SW))
    ]
    quadrant = kind % 4
    into, out = np.array(_CONVEX + _CONCAVE, dtype=np.uint8)[kind].T
    row, column = row[vertex], column[vertex]
    own_row, own_column = row + quadrant // 2, column + quadrant % 2 - 1
    return Corners(
        row=row.astype(np.int32),
        column=column.astype(np.int32),
        into=into,
        out=out,
        part=parts[own_row, own_column],
        label=(around[quadrant, vertex] - 1).astype(np.uint8),
        touching=np.concatenate(pairs),
    )


def _none() -> Corners:
    """No corners, of the kinds of numbers that corners have."""
    small, place, number = (np.zeros(0, kind) for kind in (np.uint8, np.int32, np.int64))
    return Corners(place, place, small, small, number, small, number.reshape(0, 2))


def _numbered(links: np.ndarray, count: int) -> np.ndarray:
    """The number of the whole that each of `count` parts belongs to, in the order of their first parts; 0 stays 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(count, count))
    _, found = connected_components(graph, directed=False)
    _, first = np.unique(found, return_index=True)
    order = np.empty_like(first)
    order[np.argsort(first)] = np.arange(len(first))
    return order[found]


def _fraction(probability: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    return probability / 255 if probability.dtype == np.uint8 else probability
