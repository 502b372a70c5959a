"""Where the tiles of a slide lie, in the pixels that the network sees."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.inference.predict import GRID, WindowInferer
from cvm_monai.knobs import SLIDE_DEFAULTS
from cvm_monai.slides import TissueMask


@dataclass(frozen=True)
class Grid:
    """Tiles in rows, overlapping, that cover a slide.

    Attributes:
        shape: (height, width) of the slide in network pixels, rounded: at most half a pixel of its far borders is lost.
        scale: level-0 pixels of one network pixel.
        tile: (height, width) of every tile in network pixels; the last ones may reach up to 31 px beyond `shape`.
        rows: first network row of each row of tiles.
        columns: first network column of each tile of a row.
    """

    shape: tuple[int, int]
    scale: float
    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def tiles(self) -> int:
        """How many there are, glass included."""
        return len(self.rows) * len(self.columns)

    def output_shape(self, stride: int) -> tuple[int, int]:
        """(height, width) of the map of a network whose output has one pixel for `stride` of its input."""
        return -(-self.shape[0] // stride), -(-self.shape[1] // stride)

    def band(self, row: int, stride: int) -> tuple[int, int]:
        """First and last (exclusive) row of the map that are finished once a row of tiles is."""
        last = row + 1 == len(self.rows)
        return self.rows[row] // stride, self.output_shape(stride)[0] if last else self.rows[row + 1] // stride


def make_grid(
    full: tuple[int, int],
    *,
    scale: float,
    window: int = SLIDE_DEFAULTS["window"],
    overlap: float = SLIDE_DEFAULTS["overlap"],
) -> Grid:
    """The tiles of a slide, placed as `WindowInferer` places its windows on an image.

    Args:
        full: (height, width) of level 0.
        scale: level-0 pixels of one network pixel; um/px of the network / um/px of the slide.
        window: side of a tile, see `WindowInferer`.
        overlap: see `WindowInferer`.

    Raises:
        CvmError: a tunable out of its range.
    """
    step = WindowInferer(window=window, overlap=overlap).step
    shape = (max(1, round(full[0] / scale)), max(1, round(full[1] / scale)))
    if max(shape) <= window:
        return Grid(shape, scale, shape, (0,), (0,))
    padded = [-(-side // GRID) * GRID for side in shape]
    tile = (min(window, padded[0]), min(window, padded[1]))
    rows, columns = (_starts(side, length, step) for side, length in zip(padded, tile, strict=True))
    return Grid(shape, scale, tile, rows, columns)


def _starts(side: int, length: int, step: int) -> tuple[int, ...]:
    """Steps until the side is covered; the last tile ends where it ends."""
    count = -(-(side - length) // step) + 1
    return tuple(min(number * step, side - length) for number in range(count))


class TissueOnGrid:
    """A mask of tissue looked at in network pixels: one is tissue where the mask is at its centre.

    Args:
        mask: of the slide; None: all of it is tissue.
        grid: of the tiles.
    """

    def __init__(self, mask: TissueMask | None, grid: Grid) -> None:
        self.grid = grid
        self._mask = np.ones((1, 1), bool) if mask is None else mask.mask
        steps = grid.shape if mask is None else (mask.scale[0] / grid.scale, mask.scale[1] / grid.scale)
        self._rows, self._columns = (
            np.clip(((np.arange(count) + 0.5) / step).astype(np.int64), 0, size - 1)
            for count, step, size in zip(grid.shape, steps, self._mask.shape, strict=True)
        )

    def rows(self, first: int, last: int, *, stride: int = 1, columns: tuple[int, int] | None = None) -> np.ndarray:
        """(last - first, W) bool of the rows of a map with one pixel for `stride` network pixels, at their centres.

        Args:
            columns: first and last (exclusive) of the map; None: all.
        """
        height, width = self.grid.shape
        left, right = columns or (0, -(-width // stride))
        down = np.minimum(np.arange(first, last) * stride + stride // 2, height - 1)
        across = np.minimum(np.arange(left, right) * stride + stride // 2, width - 1)
        return np.asarray(self._mask[self._rows[down]][:, self._columns[across]])

    def tiles(self, *, margin: int = 0) -> np.ndarray:
        """(rows, columns) bool: the tiles that hold tissue, or have it within `margin` network pixels."""
        kind = np.int32 if self._mask.size < 2**31 else np.int64
        sums = np.zeros((self._mask.shape[0] + 1, self._mask.shape[1] + 1), kind)
        self._mask.cumsum(0, dtype=kind, out=sums[1:, 1:])
        sums.cumsum(1, out=sums)
        (top, bottom), (left, right) = (
            _between(index, starts, length, margin)
            for index, starts, length in zip(
                (self._rows, self._columns), (self.grid.rows, self.grid.columns), self.grid.tile, strict=True
            )
        )
        upper, lower = sums[top], sums[bottom]
        return np.asarray(lower[:, right] - lower[:, left] - upper[:, right] + upper[:, left] > 0)


def _between(index: np.ndarray, starts: tuple[int, ...], length: int, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last (exclusive) mask pixel of tiles along one axis."""
    first = np.maximum(np.array(starts) - margin, 0)
    last = np.minimum(np.array(starts) + length + margin, len(index))
    return index[first], index[last - 1] + 1
