"""Grids coarser than the features: average features over square cells, and bring u back to the features' own grid.

Eq. 6 weighs an area by `lam` against the length of its border: on a grid of spacing s an area has s^2 and a length s
times fewer cells, so that `lam * s` on the grid is equivalent to `lam` on the features.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FINEST_SIDE = 256
"""Side of a map, as sqrt(pixels), up to which u is solved on every feature."""
COARSEST = 4
"""Largest spacing that is chosen by itself: from 8 on, parts of the size of a nest of cells would be lost."""


def spacing_for(shape: tuple[int, int], asked: int | None = None) -> int:
    """Return the features to a cell in each direction: `asked`, or the smallest of 1, 2 and 4 for `FINEST_SIDE`."""
    if asked is not None:
        return asked
    side, spacing = (shape[0] * shape[1]) ** 0.5, 1
    while side > FINEST_SIDE * spacing and spacing < COARSEST:
        spacing *= 2
    return spacing


def coarser(maps: Tensor, spacing: int) -> Tensor:
    """Average maps (..., C, H, W) over cells of spacing x spacing, cut at the far border; float32."""
    if spacing == 1:
        return maps.float()
    return functional.avg_pool2d(maps.float(), spacing, ceil_mode=True)


def on_full_grid(u: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """Resample u (..., h, w) of a coarser grid bilinearly to (..., H, W); None if it is of no grid of this shape."""
    rows, columns = u.shape[-2:]
    if (rows, columns) == tuple(shape):
        return u
    spacing = next((s for s in _spacings(shape[0], rows) if -(-shape[1] // s) == columns), 0)
    if not spacing:
        return None
    flat = torch.from_numpy(np.ascontiguousarray(u, dtype=np.float32)).reshape(1, -1, rows, columns)
    full = functional.interpolate(flat, scale_factor=spacing, mode="bilinear", align_corners=False)
    return np.ascontiguousarray(full[0, :, : shape[0], : shape[1]].numpy()).reshape(*u.shape[:-2], *shape)


def _spacings(length: int, cells: int) -> list[int]:
    """Return every spacing above 1 that divides a length into so many cells, the last one perhaps cut."""
    return [spacing for spacing in range(2, length + 1) if -(-length // spacing) == cells]
