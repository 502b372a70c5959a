"""Vectorise label maps to polygons with holes: the exact outline of each connected component, or a simplified one.

A region is a 4-connected set of pixels of one label: pixels that touch at a corner only are two regions. Every polygon
is valid, also after its vertices are rounded to 0.01 px, as they are returned and written to files.
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
"""Decimals of the vertices in level-0 pixels."""

AREA_KEPT = 0.01
"""Largest fraction of its area by which simplification may change a polygon."""

ATTEMPTS = 5
"""Number of tolerances tried, each half of the previous; if all fail, a polygon keeps its exact outline."""

TOGETHER = 1024
"""Largest number of polygons simplified together."""

VERTICES = 1 << 16
"""Largest number of vertices simplified together, unless one polygon has more."""


@dataclass(frozen=True)
class RegionResult:
    """A predicted region and its measurements.

    Attributes:
        region: the polygon in level-0 pixels.
        pixels: number of pixels of the label map, before simplification.
        area_um2: area of these pixels in square micrometres.
        mean_probability: mean over these pixels; None where no probability was given.
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
    """Vectorise the connected regions of a label map (H, W) uint8, in the order of their first pixel from the top.

    Args:
        scale: (y, x) level-0 pixels of one pixel of the map.
        origin: (y, x) of the map's corner in level-0 pixels.
        simplify: tolerance in level-0 pixels; raising it leaves fewer vertices and moves borders by at most that much.
            0 keeps the pixels' outline; otherwise about 1 to 4 pixels of the map. The area of every polygon changes by
            at most 1 %, by a smaller tolerance where needed.
        min_area: regions below it, in square level-0 pixels, are left out; raising it leaves out larger ones. From 0.
        skip: labels that make no region.

    Raises:
        CvmError: not a label map, or a tunable out of its range.
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
    """Vectorise the connected regions of a label map given in strips of rows, with areas and mean probabilities.

    Regions that cross strips are whole, the same as from the map in one piece. All strips are read before the first
    region is yielded. Only the corners of the regions are kept, for a large map in unnamed temporary files; memory
    holds one strip, some numbers for each region, and the outlines of few regions at a time.

    Args:
        strips: (first row, labels (h, W) uint8) or (first row, labels, probability (h, W)) from top to bottom without a
            gap, of any heights; the probability is uint8 with 255 as 1, or floating, and given for all strips or none.
        mpp: micrometres per level-0 pixel.
        scale: (y, x) level-0 pixels of one pixel of the map.
        origin: (y, x) of the map's corner in level-0 pixels.
        simplify_um: tolerance in micrometres, see ``regions_from_labels``.
        min_area_um2: regions below it, in square micrometres, are left out; raising it leaves out larger ones. From 0.
        skip: labels of which no region is made.
        folder: folder of the temporary files, 40 bytes for each corner of an outline; None: the system's.

    Raises:
        CvmError: strips that do not form a map, or a tunable out of its range.
        OSError: no space for the temporary files.
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


def measured_regions(regions: Collection[Region], *, mpp: float) -> tuple[RegionResult, ...]:
    """Measure drawn regions: area of each polygon without its holes, in pixels (rounded) and square micrometres."""
    import shapely

    areas = [shapely.Polygon(region.exterior, region.holes).area for region in regions]
    pairs = zip(regions, areas, strict=True)
    return tuple(RegionResult(region, round(area), area * mpp**2) for region, area in pairs)


def _results(
    scanned: Scan,
    least_pixels: float,
    *,
    scale: tuple[float, float],
    origin: tuple[float, float],
    mpp: float,
    tolerance: float,
) -> Generator[RegionResult, None, None]:
    """Yield the outlines with enough pixels, in level-0 coordinates, simplified and measured."""
    with closing(scanned.corners):
        large = (outline for outline in outlines(scanned) if scanned.pixels[outline.part] >= least_pixels)
        for some in _together(large):
            yield from _measured(some, scanned, scale=scale, origin=origin, mpp=mpp, tolerance=tolerance)


def _together(found: Iterable[Outline]) -> Iterator[list[Outline]]:
    """Group outlines: at most `TOGETHER` in a group, with at most `VERTICES` vertices unless one outline has more."""
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
    """Yield the results of a group of outlines: in level-0 coordinates, simplified, measured."""
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
    """Simplify polygons, given as rings of (N, 2) vertices; all holes are kept, valid after rounding to ``DECIMALS``.

    Args:
        tolerance: largest distance, in the vertices' unit, between the old outline and the new one. Where a polygon
            becomes invalid or its area changes by more than 1 %, half of it is tried, and so on; after five attempts
            the polygon is kept unchanged.
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
    """Return the vertices of a shapely polygon's rings, the exterior first, without the repeated last ones."""
    return [np.asarray(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors)]
