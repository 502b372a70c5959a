"""Rasterise points and regions into label maps, and sample points from regions."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from cvm_monai.annotations.model import UNLABELLED, Annotations, Point, Region
from cvm_monai.annotations.nesting import nest
from cvm_monai.errors import CvmError

MAX_LATTICE = 2**24
"""Largest number of pixels that `region_points` tests; larger regions are subsampled on a regular lattice."""


def rasterise_points(
    annotations: Annotations | Iterable[Point],
    *,
    image_shape: tuple[int, int],
    map_shape: tuple[int, int],
    size: int = 3,
) -> np.ndarray:
    """Rasterise points, over the regions of the same image, into a label map.

    A point becomes a square around its pixel floor(coordinate * map / image). A pixel covered by squares of two classes
    gets the class of the point that lies on it, else it is unlabelled. For regions see ``rasterise_regions``.

    Args:
        annotations: points alone, or points and regions, in level-0 pixels.
        image_shape: (height, width) of the image at level 0.
        map_shape: (height, width) of the map to draw.
        size: side of the square in pixels of the map, odd; raising it gives more labelled pixels, and more wrong ones
            near borders. The border of the map clips it.

    Returns:
        (H, W) uint8 class indices, 255 = unlabelled.

    Raises:
        CvmError: an even size, or a point outside the image.
    """
    if size < 1 or size % 2 == 0:
        raise CvmError(f"the size of a point must be an odd number of pixels, got {size}")
    if not isinstance(annotations, Annotations):
        annotations = Annotations(tuple(annotations))
    centres = points_to_pixels(annotations.points, image_shape=image_shape, map_shape=map_shape)
    labels = np.array([point.label for point in annotations.points], dtype=np.uint8)
    drawn = rasterise_regions(annotations.regions, image_shape=image_shape, map_shape=map_shape)
    for reach in (size // 2, 0):  # the squares, then the points' own pixels over them
        claims = np.zeros(map_shape, dtype=np.uint8)
        for label in np.unique(labels):
            square = _squares(centres[labels == label], map_shape, reach)
            drawn[square] = label
            claims += square
        drawn[claims > 1] = UNLABELLED
    return drawn


def points_to_pixels(
    points: Sequence[Point], *, image_shape: tuple[int, int], map_shape: tuple[int, int]
) -> np.ndarray:
    """Map points to (P, 2) integer (row, column) of a map: floor(coordinate * map / image).

    Raises:
        CvmError: a point outside the image.
    """
    positions = np.array([(point.y, point.x) for point in points], dtype=np.float64).reshape(-1, 2)
    outside = ((positions < 0) | (positions >= image_shape)).any(1)
    if outside.any():
        y, x = positions[outside][0]
        raise CvmError(f"the point ({x:g}, {y:g}) lies outside the image of {image_shape[1]} x {image_shape[0]} px")
    pixels = np.floor(positions * map_shape / image_shape).astype(np.int64)
    return np.minimum(pixels, np.asarray(map_shape) - 1)  # a coordinate just below the border may round up to it


def rasterise_regions(
    regions: Iterable[Region], *, image_shape: tuple[int, int], map_shape: tuple[int, int]
) -> np.ndarray:
    """Label each pixel whose centre lies inside a region and outside its holes; exclusions (255) win.

    A region inside one of another class wins, see ``nesting.nest``; other overlaps of two classes are unlabelled. A
    centre exactly on a border belongs to the region on its right or below, so that adjacent regions neither share nor
    omit a pixel.

    Returns:
        (H, W) uint8 class indices, 255 = unlabelled.
    """
    drawn = np.full(map_shape, UNLABELLED, dtype=np.uint8)
    refused = np.zeros(map_shape, dtype=bool)
    scale = np.array([map_shape[1] / image_shape[1], map_shape[0] / image_shape[0]])
    for region in nest(tuple(regions)):
        rings = [np.asarray(ring) * scale for ring in (region.exterior, *region.holes)]
        rows, columns = _bounds(rings[0], map_shape)
        here = drawn[rows, columns]
        inside = fill([ring - (columns.start, rows.start) for ring in rings], here.shape)
        refused[rows, columns] |= inside & ((region.label == UNLABELLED) | ~np.isin(here, (UNLABELLED, region.label)))
        here[inside] = region.label if region.label != UNLABELLED else here[inside]
    drawn[refused] = UNLABELLED
    return drawn


def fill(rings: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Make a (H, W) bool mask: true where (column + 0.5, row + 0.5) lies in the first ring and in no other ring.

    Rings are vertices (x, y); each one is filled by the even-odd rule.
    """
    inside = _fill_ring(rings[0], shape)
    for hole in rings[1:]:
        _clear(inside, [hole])
    return inside


def _clear(inside: np.ndarray, rings: Sequence[np.ndarray]) -> None:
    """Set to false what a polygon covers, within its bounding box only: a region may have many small holes."""
    rows, columns = _bounds(rings[0], inside.shape)
    here = inside[rows, columns]
    here &= ~fill([ring - (columns.start, rows.start) for ring in rings], here.shape)


def _fill_ring(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fill a ring by the even-odd rule: count, in each row, the edges on the left of each pixel centre."""
    height, width = shape
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 > y1:  # so that an edge shared by two regions gives identical rounding
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, math.ceil(y0 - 0.5)), min(height, math.ceil(y1 - 0.5)))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)
    return np.cumsum(crossings[:, :width], axis=1) % 2 == 1


def region_points(
    region: Region,
    *,
    count: int = 5,
    seed: int,
    image_shape: tuple[int, int] | None = None,
    apart: Sequence[Region] = (),
) -> tuple[Point, ...]:
    """Sample different pixel centres inside a region, for the methods that need points.

    Args:
        count: how many; a region with fewer pixels gives all of them, an empty one none.
        seed: the same seed gives the same points.
        image_shape: (height, width) that clips the region; None leaves it whole.
        apart: regions that are kept free of points; a region that they cover wholly gives none.
    """
    rings = [np.asarray(ring) for ring in (region.exterior, *region.holes)]
    low, high = np.floor(rings[0].min(0)), np.ceil(rings[0].max(0))
    if image_shape is not None:
        low, high = np.maximum(low, 0), np.minimum(high, image_shape[::-1])
    if (high <= low).any():
        return ()
    rng = np.random.default_rng(seed)
    step = math.ceil(math.sqrt((high - low).prod() / MAX_LATTICE))
    origin = low + rng.integers(step, size=2)  # the lattice's first pixel
    width, height = np.maximum(np.ceil((high - origin) / step), 0).astype(int)
    inside = fill([_on_lattice(ring, origin, step) for ring in rings], (height, width))
    for other in apart:
        _clear(inside, [_on_lattice(ring, origin, step) for ring in (other.exterior, *other.holes)])
    rows, columns = np.nonzero(inside)
    chosen = rng.permutation(len(rows))[:count]
    x, y = origin[0] + columns[chosen] * step + 0.5, origin[1] + rows[chosen] * step + 0.5
    return tuple(Point(float(a), float(b), region.label) for a, b in zip(x, y, strict=True))


def _on_lattice(ring: Sequence[tuple[float, float]] | np.ndarray, origin: np.ndarray, step: int) -> np.ndarray:
    """Transform vertices to lattice coordinates, in which lattice points are pixel centres."""
    return (np.asarray(ring) - origin - 0.5) / step + 0.5


def _squares(centres: np.ndarray, shape: tuple[int, int], reach: int) -> np.ndarray:
    """Make a (H, W) bool mask of the pixels at most `reach` rows and columns away from a centre."""
    covered = np.zeros(shape, dtype=bool)
    for row, column in centres:
        covered[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    return covered


def _bounds(ring: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the map in a ring's bounding box."""
    low = np.clip(np.floor(ring.min(0)), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(ring.max(0)), 0, shape[::-1]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])
