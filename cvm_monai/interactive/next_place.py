"""Find the place of an image where an annotation helps most: a click on u, or a patch of a larger image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cvm_monai.errors import CvmError
from cvm_monai.interactive.window import Window

SMALLEST = 16
"""Smallest side of a patch in level-0 pixels."""

MOST = 10**6
"""Maximal number of patches of an image."""

UNCERTAIN = 0.25
"""u between this and 1 minus this is uncertain; lowering it makes the regions larger."""


@dataclass(frozen=True)
class NextPlace:
    """A place for the next click.

    Attributes:
        row, column: of u.
        share: fraction of u's pixels that are in its region.
    """

    row: int
    column: int
    share: float


def where_next(u: np.ndarray, *, uncertain: float = UNCERTAIN) -> NextPlace | None:
    """Find the innermost pixel of the largest connected uncertain region of u (H, W); None where u is certain.

    Args:
        uncertain: pixels with min(u, 1 - u) from this on are uncertain, 0 to 0.5.
    """
    labels, count = ndimage.label(np.minimum(u, 1 - u) >= uncertain)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    region = np.pad(labels == sizes.argmax() + 1, 1)
    row, column = np.unravel_index(int(ndimage.distance_transform_edt(region).argmax()), region.shape)
    return NextPlace(int(row) - 1, int(column) - 1, float(sizes.max() / u.size))


def lattice(shape: tuple[int, int], size: tuple[float, float]) -> list[Window]:
    """Place patches of (width, height) over an image of (height, width), row by row; the last end at its border.

    Raises:
        CvmError: patches that are too small.
    """
    (height, width), (across, down) = shape, size
    if min(size) < SMALLEST or (width / across + 1) * (height / down + 1) > MOST:
        raise CvmError(f"patch_size must be a width and a height from {SMALLEST} px, got {across:g} x {down:g}")
    w, h = min(int(across), width), min(int(down), height)
    columns, rows = (
        sorted({min(start, side - step) for start in range(0, side, step)}) for side, step in ((width, w), (height, h))
    )
    return [Window(x, y, w, h) for y in rows for x in columns]


def mean_in(values: np.ndarray, shape: tuple[int, int], patches: Sequence[Window]) -> np.ndarray:
    """Compute the mean in each patch of a map of a whole image of (height, width)."""
    scale_y, scale_x = values.shape[0] / shape[0], values.shape[1] / shape[1]
    means = []
    for patch in patches:
        top, left = int(patch.y * scale_y), int(patch.x * scale_x)
        bottom = max(top + 1, round((patch.y + patch.height) * scale_y))
        right = max(left + 1, round((patch.x + patch.width) * scale_x))
        means.append(values[top:bottom, left:right].mean())
    return np.array(means)
