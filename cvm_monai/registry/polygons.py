"""The outlines of a label image along its pixels' edges."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cvm_monai.annotations import Region
from cvm_monai.annotations.model import Ring


def outline_regions(labels: np.ndarray) -> tuple[Region, ...]:
    """One region, with its holes, for each connected part (by edges, not corners) of each label above 0.

    The vertices are corners of pixels, so that a region covers exactly the pixels of its label.

    Args:
        labels: (H, W) integers.
    """
    return tuple(region for label in np.unique(labels[labels > 0]) for region in _outlines(labels == label, int(label)))


def _outlines(mask: np.ndarray, label: int) -> Iterator[Region]:
    """Rows are cut into runs of pixels, and the runs' rectangles united."""
    import shapely

    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    united = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    for polygon in shapely.get_parts(shapely.simplify(united, 0)):
        yield Region(_ring(polygon.exterior), tuple(map(_ring, polygon.interiors)), label)


def _ring(ring: Any) -> Ring:
    return tuple((float(x), float(y)) for x, y in ring.coords[:-1])
