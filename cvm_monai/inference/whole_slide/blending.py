"""Blend overlapping tiles of logits, holding only the columns that are not finished."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from torch.nn import functional

from cvm_monai.errors import CvmError

SIGMA = 0.125
"""Standard deviation of the Gaussian as a fraction of the tile's side, as in MONAI."""

TOGETHER = 128
"""Rows converted to probabilities at a time."""

COLUMNS = 4096
"""Columns of the map that are finished together: raising it costs memory and transfers larger blocks from a GPU."""

Above = Callable[[int, int], np.ndarray | None]
"""Returns, for columns from the first to the last (exclusive), the sums shared by the row of tiles above."""


@dataclass(frozen=True)
class Block:
    """Columns of the map that a row of tiles has finished.

    Attributes:
        first: column of the map.
        values: (rows, classes - 1, columns) uint8, round(255 p) of each foreground class, 0 where there was no tile.
        covered: (rows, columns) bool, true where there was a tile.
        shared: (columns, classes, rows) float32, weighted sums and weights of the rows below, to which the next row of
            tiles adds; None where no tile reached.
    """

    first: int
    values: np.ndarray
    covered: np.ndarray
    shared: np.ndarray | None


class RowBlender:
    """Gaussian-weighted mean of logits over one row of tiles, in blocks of columns: memory independent of the width.

    It holds the logits minus the background's, and the weights: 4 bytes x classes x height of a tile x
    (`COLUMNS` + width of a tile).

    Args:
        window: (h, w) weights of a tile's output, on the device; see `gaussian`.
        classes: of the network.
        width: of the map.
        finished: number of rows that no later tile reaches.
        shared: number of rows below, which the next row of tiles reaches too.
        above: returns the sums shared by the row of tiles above, in the form of `Block.shared`.
        on_block: called with the finished columns, from left to right without gaps.
    """

    def __init__(
        self,
        window: torch.Tensor,
        *,
        classes: int,
        width: int,
        finished: int,
        shared: int,
        above: Above,
        on_block: Callable[[Block], None],
    ) -> None:
        height, tile = window.shape
        self._window, self._width, self._finished, self._shared = window, width, finished, shared
        self._above, self._on_block = above, on_block
        held = min(width, COLUMNS) + tile  # tiles may reach beyond the map
        self._sums = torch.zeros((classes, height, held), device=window.device)  # the last channel holds the weights
        self._first = self._loaded = 0
        self._load(held)

    def add(self, logits: torch.Tensor, column: int) -> None:
        """Add a tile's logits (classes, h, w) at map column `column`, not to the left of earlier tiles.

        Raises:
            CvmError: the network gave infinite or NaN logits.
        """
        z = logits.float()
        while column + z.shape[-1] > self._first + self._sums.shape[2]:
            self._finish(min(column - self._first, COLUMNS))
        place = slice(column - self._first, column - self._first + z.shape[-1])
        self._sums[:-1, :, place].addcmul_(z[1:] - z[:1], self._window)
        self._sums[-1, :, place] += self._window

    def close(self) -> None:
        """Finish the remaining columns of the row.

        Raises:
            CvmError: as `add`.
        """
        while self._first < self._width:
            self._finish(min(self._width - self._first, COLUMNS))

    def _finish(self, count: int) -> None:
        """Output the first `count` columns and shift the remaining ones to the front."""
        sums = self._sums[:, :, : min(count, self._width - self._first)]
        if sums.shape[2]:
            self._on_block(self._block(sums))
        held = self._sums.shape[2]
        for start in range(0, held, count):  # in pieces: source and target must not overlap
            piece = self._sums[:, :, start + count : start + 2 * count]
            self._sums[:, :, start : start + piece.shape[2]] = piece
        self._sums[:, :, max(held - count, 0) :] = 0
        self._first += count
        self._load(held)

    def _block(self, sums: torch.Tensor) -> Block:
        values = np.empty((self._finished, len(sums) - 1, sums.shape[2]), np.uint8)
        covered = np.empty((self._finished, sums.shape[2]), bool)
        for first in range(0, self._finished, TOGETHER):
            rows = slice(first, min(first + TOGETHER, self._finished))
            weights = sums[-1, rows]
            found = probabilities(sums[:-1, rows] / weights.clamp_min(1e-30))
            if not bool(torch.isfinite(found).all()):
                raise CvmError("the network's output is not finite: its weights are damaged, or try without --amp")
            values[rows] = torch.round(found * (weights > 0) * 255).to(torch.uint8).transpose(0, 1).cpu().numpy()
            covered[rows] = (weights > 0).cpu().numpy()
        below = sums[:, self._finished : self._finished + self._shared]
        reached = self._shared > 0 and bool((below[-1] > 0).any())
        return Block(self._first, values, covered, below.permute(2, 0, 1).cpu().numpy() if reached else None)

    def _load(self, held: int) -> None:
        """Add the sums shared by the row above to the newly held columns."""
        last = min(self._first + held, self._width)
        first, self._loaded = max(self._loaded, self._first), max(self._loaded, last)
        found = self._above(first, last) if first < last else None
        if found is not None:
            place = slice(first - self._first, last - self._first)
            self._sums[:, : found.shape[2], place] = torch.from_numpy(found).to(self._sums.device).permute(1, 2, 0)


def gaussian(tile: tuple[int, int], output: tuple[int, int]) -> torch.Tensor:
    """Compute positive weights (h, w) float32 of a tile's output pixels, as MONAI's `SlidingWindowInferer` does."""
    weights = compute_importance_map(tile, mode="gaussian", sigma_scale=SIGMA, dtype=torch.float32)
    weights = weights.clamp_min(max(float(weights[weights > 0].min()), 1e-3))
    if tuple(output) != tuple(tile):
        weights = functional.interpolate(weights[None, None], size=output, mode="nearest-exact")[0, 0]
    return weights


def probabilities(above: torch.Tensor) -> torch.Tensor:
    """Compute probabilities (C - 1, H, W) of the foreground classes from their logits minus the background's."""
    if len(above) == 1:
        return torch.sigmoid(above)
    return torch.softmax(torch.cat([torch.zeros_like(above[:1]), above]), dim=0)[1:]
