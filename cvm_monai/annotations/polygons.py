"""Polygons with holes from label maps: the exact union of the pixels of each connected region, or a simpler outline.

A region is a 4-connected set of pixels of one label: pixels that touch at a corner only are two regions. Every polygon
is valid, also with its vertices rounded to 0.01 px as they are given here and written to files.
"""

import math
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations.corners import Scan, Strip, scan
from cvm_monai.annotations.model import BACKGROUND, UNLABELLED, Region
from cvm_monai.annotations.outlines import Outline, outlines
from cvm_monai.errors import CvmError

DECIMALS = 2
"""Of the vertices in level-0 pixels."""

AREA_KEPT = 0.01
"""Largest share of its area by which simplification may change a polygon."""

ATTEMPTS = 5
"""Tolerances tried, each half of the one before; a polygon that none of them suits keeps its exact outline."""

TOGETHER = 1024
"""Polygons simplified at a time, at most."""

VERTICES = 1 << 16
"""Vertices of the polygons that are simplified at a time, at most, except of one that has more."""


@dataclass(frozen=True)
class RegionResult:
    """A predicted region and what was measured of it.

    Attributes:
        region: in level-0 pixels.
        pixels: of the label map, before any simplification.
        area_um2: of these pixels in square micrometres.
        mean_probability: over these pixels; None where none was given.
    """

    region: Region
    pixels: int
    area_um2: float
    mean_probability: float | None = None


def regions_from_labels(
    labels: np.ndarray,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    origin: tuple[float, float] = (0.0, 0.0),
    simplify: float = 0.0,
    min_area: float = 0.0,
    skip: Collection[int] = (BACKGROUND, UNLABELLED),
) -> tuple[Region, ...]:
    """The connected regions of a label map (H, W) uint8, in the order of their first pixel from top to bottom.

    Args:
        scale: (y, x) level-0 pixels of one pixel of the map.
        origin: (y, x) of the map's corner in level-0 pixels.
        simplify: tolerance in level-0 pixels; raising it leaves fewer vertices and moves borders by at most that much.
            0 keeps the pixels' own outline; otherwise from about 1 to 4 pixels of the map. The area of every polygon is
            kept within 1 %, by a smaller tolerance where needed.
        min_area: regions below it, in square level-0 pixels, are left out; raising it leaves out larger ones. From 0.
        skip: labels of which no region is made.

    Raises:
        CvmError: no such map, or a tunable out of its range.
    """
    results = regions_from_rows(
        [(0, labels)], mpp=1.0, scale=scale, origin=origin, simplify_um=simplify, min_area_um2=min_area, skip=skip
    )
    return tuple(result.region for result in results)


def regions_from_rows(
    strips: Iterable[Strip],
    *,
    mpp: float,
    scale: tuple[float, float] = (1.0, 1.0),
    origin: tuple[float, float] = (0.0, 0.0),
    simplify_um: float = 0.0,
    min_area_um2: float = 0.0,
    skip: Collection[int] = (BACKGROUND, UNLABELLED),
    folder: str | Path | None = None,
) -> Generator[RegionResult, None, None]:
    """The connected regions of a label map that comes in strips of rows, with their areas and mean probabilities.

    Regions that cross strips are whole, the same as from the map in one piece. All strips are read before the first
    region is given. What is kept of them is the corners of the regions, of a large map in temporary files without a
    name; held in memory are one strip, some numbers for each region, and the outlines of few regions at a time.

    Args:
        strips: (first row, labels (h, W) uint8) or (first row, labels, probability (h, W)) from top to bottom without a
            gap, of any heights; the probability is uint8 with 255 as 1, or floating. All strips have one or none has.
        mpp: micrometres per level-0 pixel.
        scale: (y, x) level-0 pixels of one pixel of the map.
        origin: (y, x) of the map's corner in level-0 pixels.
        simplify_um: tolerance in micrometres, see ``regions_from_labels``.
        min_area_um2: regions below it, in square micrometres, are left out; raising it leaves out larger ones. From 0.
        skip: labels of which no region is made.
        folder: of the temporary files, 40 bytes for each corner of an outline; None: the system's.

    Raises:
        CvmError: strips that do not make a map, or a tunable out of its range.
        OSError: the temporary files have no room.
    """
    for name, value in (("simplify_um", simplify_um), ("min_area_um2", min_area_um2)):
        if not 0 <= value < math.inf:
            raise CvmError(f"{name} must be a number from 0, got {value!r}")
    if not 0 < mpp < math.inf:
        raise CvmError(f"mpp must be above 0 micrometres per pixel, got {mpp!r}")
    if not all(10**-DECIMALS < step < math.inf for step in scale):
        raise CvmError(f"scale must be level-0 pixels (y, x) of one pixel of the map, above 0.01, got {scale!r}")
    if not all(0 <= label <= UNLABELLED for label in skip):
        raise CvmError(f"skip must be labels from 0 to {UNLABELLED}, got {tuple(skip)}")
    scanned = scan(strips, skip=skip, folder=None if folder is None else Path(folder))
    least_pixels = min_area_um2 / (mpp**2 * scale[0] * scale[1])
    return _results(scanned, least_pixels, scale=scale, origin=origin, mpp=mpp, tolerance=simplify_um / mpp)


def _results(
    scanned: Scan,
    least_pixels: float,
    *,
    scale: tuple[float, float],
    origin: tuple[float, float],
    mpp: float,
    tolerance: float,
) -> Generator[RegionResult, None, None]:
    """Outlines that are large enough placed on the slide, simplified and measured."""
    with closing(scanned.corners):
        large = (outline for outline in outlines(scanned) if scanned.pixels[outline.part] >= least_pixels)
        for some in _together(large):
            yield from _measured(some, scanned, scale=scale, origin=origin, mpp=mpp, tolerance=tolerance)


def _together(found: Iterable[Outline]) -> Iterator[list[Outline]]:
    """Outlines in groups of at most `TOGETHER`, and of at most `VERTICES` unless one alone has more."""
    some: list[Outline] = []
    held = 0
    for outline in found:
        count = sum(map(len, outline.rings))
        if some and (len(some) == TOGETHER or held + count > VERTICES):
            yield some
            some, held = [], 0
        some.append(outline)
        held += count
    if some:
        yield some


def _measured(
    some: list[Outline],
    scanned: Scan,
    *,
    scale: tuple[float, float],
    origin: tuple[float, float],
    mpp: float,
    tolerance: float,
) -> Iterator[RegionResult]:
    """The results of a chunk of outlines: placed in level-0 coordinates, simplified, measured."""
    step, corner = np.array(scale[::-1]), np.array(origin[::-1])
    placed = [[np.round(corner + ring * step, DECIMALS) for ring in outline.rings] for outline in some]
    if tolerance > 0:
        placed = simplified(placed, tolerance)
    for outline, rings in zip(some, placed, strict=True):
        exterior, *holes = (tuple(map(tuple, ring.tolist())) for ring in rings)
        pixels = int(scanned.pixels[outline.part])
        mean = None if scanned.probability is None else float(scanned.probability[outline.part] / pixels)
        area = pixels * scale[0] * scale[1] * mpp**2
        yield RegionResult(Region(exterior, tuple(holes), outline.label), pixels, area, mean)


def simplified(polygons: list[list[np.ndarray]], tolerance: float) -> list[list[np.ndarray]]:
    """Polygons as rings of (N, 2) vertices with fewer of them, all holes kept, valid after rounding to ``DECIMALS``.

    Args:
        tolerance: largest distance, in the vertices' unit, between the old outline and the new one. Where a polygon
            becomes invalid or its area changes by more than 1 %, half of it is tried, and so on; after five attempts
            the polygon stays as it is.
    """
    import shapely

    exact = np.array([shapely.Polygon(exterior, holes) for exterior, *holes in polygons], dtype=object)
    area, holes = shapely.area(exact), shapely.get_num_interior_rings(exact)
    chosen, pending = list(polygons), np.arange(len(exact))
    for attempt in range(ATTEMPTS):
        tried = shapely.simplify(exact[pending], tolerance / 2**attempt, preserve_topology=True)
        tried = shapely.transform(tried, lambda vertices: np.round(vertices, DECIMALS))
        good = shapely.is_valid(tried) & (shapely.get_num_interior_rings(tried) == holes[pending])
        good &= np.abs(shapely.area(tried) - area[pending]) <= AREA_KEPT * area[pending]
        for index, polygon in zip(pending[good], tried[good], strict=True):
            chosen[index] = _rings(polygon)
        pending = pending[~good]
        if not len(pending):
            break
    return chosen


def _rings(polygon: Any) -> list[np.ndarray]:
    """The vertices of a shapely polygon's rings, the exterior first, without the repeated last ones."""
    return [np.asarray(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors)]
