"""Sample points from masks, in place of an annotator's clicks."""

import hashlib

import numpy as np
from scipy import ndimage

from cvm_monai.annotations import BACKGROUND, Point
from cvm_monai.errors import CvmError


def sample_points(
    mask: np.ndarray, *, case_id: str, pairs: int = 5, seed: int = 0, min_distance: float = 3.0, classes: int = 2
) -> tuple[Point, ...]:
    """Sample `pairs` different pixel centres of each class, target first and background last.

    The points depend on the case's id and the seed, not on other cases; a larger `pairs` extends the points of a
    smaller one. A class with fewer pixels gives all of them, an absent class none.

    Args:
        mask: (H, W) integers, 1 = target, 0 = background, further classes from 2; other values are ignored.
        pairs: points of each class, from 1; 3 to 10 are usual.
        seed: another seed gives other points.
        min_distance: smallest distance in pixels to the nearest pixel of another value, where the class has such
            pixels, else any of its pixels may be drawn; raising it makes easier, more central points; 0 to 20.
        classes: number of classes, including background.

    Raises:
        CvmError: fewer than one pair.
    """
    if pairs < 1:
        raise CvmError(f"pairs must be at least 1, got {pairs}")
    points: list[Point] = []
    for label in (*range(1, classes), BACKGROUND):
        inside = mask == label
        deep = ndimage.distance_transform_edt(inside) >= min_distance if not inside.all() else inside
        digest = hashlib.sha256(f"{seed}/{label}/{case_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        preferred = np.flatnonzero(deep)
        chosen = _draw(rng, preferred, pairs)
        if len(chosen) < pairs:
            chosen += _draw(rng, np.flatnonzero(inside & ~deep), pairs - len(chosen))
        rows, columns = np.unravel_index(np.array(chosen, dtype=np.int64), mask.shape)
        points += [Point(column + 0.5, row + 0.5, label) for row, column in zip(rows, columns, strict=True)]
    return tuple(points)


def _draw(rng: np.random.Generator, pixels: np.ndarray, count: int) -> list[int]:
    """Draw different pixels one by one, so that the first ones do not depend on the number of draws."""
    chosen: dict[int, None] = {}
    while len(chosen) < min(count, len(pixels)):
        chosen[int(pixels[rng.integers(len(pixels))])] = None
    return list(chosen)
