"""Overlapping tiles of logits blended, as much of it held as is not yet finished."""

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from torch.nn import functional

SIGMA = 0.125
"""Width of the Gaussian as a part of the tile, MONAI's."""

TOGETHER = 128
"""Rows turned into probabilities at a time."""


class RowBlender:
    """The Gaussian mean of logits over one row of tiles, and what it shares with the next.

    Held are the logits over those of the background, and the weights: 4 bytes x classes x height of a tile x width of
    the map.

    Args:
        classes: of the network.
        tile: (height, width) of a tile of its input.
        output: (height, width) of the logits of a tile.
        width: of the map, at least that of a tile.
        device: where the logits are.
    """

    def __init__(
        self,
        *,
        classes: int,
        tile: tuple[int, int],
        output: tuple[int, int],
        width: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._window = gaussian(tile, output).to(device)
        self._sums = torch.zeros((classes - 1, output[0], width), device=device)
        self._weights = torch.zeros((output[0], width), device=device)

    def add(self, logits: torch.Tensor, column: int) -> None:
        """Add a tile's logits (classes, h, w), whose first column of the map is `column`."""
        z = logits.float()
        place = slice(column, column + z.shape[-1])
        self._sums[:, :, place].addcmul_(z[1:] - z[:1], self._window)
        self._weights[:, place] += self._window

    def finish(self, count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Take out the upper `count` rows.

        Returns:
            (count, classes - 1, width) uint8, round(255 p) of each foreground class, 0 where no tile was; and
            (count, width) bool, where one was.

        Raises:
            ValueError: the network gave infinite logits, or NaN.
        """
        values = np.empty((count, len(self._sums), width), np.uint8)
        covered = np.empty((count, width), bool)
        for first in range(0, count, TOGETHER):
            rows = slice(first, min(first + TOGETHER, count))
            weights = self._weights[rows, :width]
            found = probabilities(self._sums[:, rows, :width] / weights.clamp_min(1e-30))
            if not bool(torch.isfinite(found).all()):
                raise ValueError("the network's output is not finite: its weights are damaged, or try without --amp")
            values[rows] = torch.round(found * (weights > 0) * 255).to(torch.uint8).transpose(0, 1).cpu().numpy()
            covered[rows] = (weights > 0).cpu().numpy()
        self._move_up(count)
        return values, covered

    def carry(self, count: int) -> np.ndarray | None:
        """(classes, count, width) float32: weighted sums and weights of the upper rows; None where no tile reached."""
        if not bool((self._weights[:count] > 0).any()):
            return None
        return torch.cat([self._sums[:, :count], self._weights[None, :count]]).cpu().numpy()

    def restore(self, carried: np.ndarray) -> None:
        """Continue from what `carry` gave."""
        held = torch.from_numpy(carried).to(self._sums.device)
        self._sums[:, : held.shape[1]] = held[:-1]
        self._weights[: held.shape[1]] = held[-1]

    def _move_up(self, count: int) -> None:
        for held in (*self._sums, self._weights):
            kept = len(held) - count
            for first in range(0, kept, count):  # blocks that do not overlap with where they go
                last = min(first + count, kept)
                held[first:last] = held[first + count : last + count]
            held[max(kept, 0) :] = 0


def gaussian(tile: tuple[int, int], output: tuple[int, int]) -> torch.Tensor:
    """(h, w) float32 weights above 0 of a tile's output pixels, as MONAI's `SlidingWindowInferer` has them."""
    weights = compute_importance_map(tile, mode="gaussian", sigma_scale=SIGMA, dtype=torch.float32)
    weights = weights.clamp_min(max(float(weights[weights > 0].min()), 1e-3))
    if tuple(output) != tuple(tile):
        weights = functional.interpolate(weights[None, None], size=output, mode="nearest-exact")[0, 0]
    return weights


def probabilities(above: torch.Tensor) -> torch.Tensor:
    """(C - 1, H, W) probabilities of the foreground classes from their logits above those of the background."""
    if len(above) == 1:
        return torch.sigmoid(above)
    return torch.softmax(torch.cat([torch.zeros_like(above[:1]), above]), dim=0)[1:]
