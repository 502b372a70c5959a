"""Grid of a slide's tiles, in pixels of the network's input."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.inference.predict import GRID, WindowInferer
from cvm_monai.knobs import SLIDE_DEFAULTS
from cvm_monai.slides import TissueMask


@dataclass(frozen=True)
class Grid:
    """Overlapping tiles in rows that cover a slide.

    Attributes:
        shape: (height, width) of the slide in network pixels, rounded: at most half a pixel is lost at the far borders.
        scale: level-0 pixels per network pixel.
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
        """Number of tiles, glass included."""
        return len(self.rows) * len(self.columns)

    def output_shape(self, stride: int) -> tuple[int, int]:
        """Return (height, width) of the map of a network with one output pixel per `stride` input pixels."""
        return -(-self.shape[0] // stride), -(-self.shape[1] // stride)

    def band(self, row: int, stride: int) -> tuple[int, int]:
        """Return the first and last (exclusive) map row that are finished once a row of tiles is."""
        last = row + 1 == len(self.rows)
        return self.rows[row] // stride, self.output_shape(stride)[0] if last else self.rows[row + 1] // stride


def make_grid(
    full: tuple[int, int],
    *,
    scale: float,
    window: int = SLIDE_DEFAULTS["window"],
    overlap: float = SLIDE_DEFAULTS["overlap"],
) -> Grid:
    """Place the tiles of a slide as `WindowInferer` places its windows on an image.

    Args:
        full: (height, width) of level 0.
        scale: level-0 pixels per network pixel: um/px of the network / um/px of the slide.
        window: side of a tile, see `WindowInferer`.
        overlap: see `WindowInferer`.

    Raises:
        CvmError: a window or overlap out of range.
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
    """Return the start of each tile along one side; the last tile ends at the side's end."""
    count = -(-(side - length) // step) + 1
    return tuple(min(number * step, side - length) for number in range(count))


class TissueOnGrid:
    """Mask of tissue sampled at the centres of network pixels.

    Args:
        mask: of the slide; None: all is tissue.
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
        """Sample rows of a map with one pixel per `stride` network pixels, at the centres: (last - first, W) bool.

        Args:
            columns: first and last (exclusive) of the map; None: all.
        """
        height, width = self.grid.shape
        left, right = columns or (0, -(-width // stride))
        down = np.minimum(np.arange(first, last) * stride + stride // 2, height - 1)
        across = np.minimum(np.arange(left, right) * stride + stride // 2, width - 1)
        return np.asarray(self._mask[self._rows[down]][:, self._columns[across]])

    def tiles(self, *, margin: int = 0) -> np.ndarray:
        """Find the tiles with tissue in them or within `margin` network pixels: (rows, columns) bool."""
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
    """Return the first and last (exclusive) mask pixel of tiles along one axis."""
    first = np.maximum(np.array(starts) - margin, 0)
    last = np.minimum(np.array(starts) + length + margin, len(index))
    return index[first], index[last - 1] + 1
