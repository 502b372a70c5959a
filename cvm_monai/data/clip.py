"""Clip regions to tiles: polygons with holes in the tile's pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvm_monai.annotations import Annotations, Region


class RegionIndex:
    """A spatial index of a slide's regions that clips them to rectangles.

    Args:
        regions: valid regions, as returned by `read_annotations`, in level-0 pixels.
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        import shapely

        self.regions = tuple(regions)
        self.polygons: list[Any] = [shapely.Polygon(region.exterior, region.holes) for region in self.regions]
        shapely.prepare(self.polygons)
        self._tree = shapely.STRtree(self.polygons)

    def touching(self, corner: tuple[float, float], size: tuple[float, float]) -> list[int]:
        """Find the indices of the regions that intersect or touch a rectangle of (width, height) level-0 pixels."""
        return sorted(self._tree.query(_box(corner, size), predicate="intersects").tolist())

    def clip(
        self, corner: tuple[float, float], *, shape: tuple[int, int], scale: tuple[float, float]
    ) -> tuple[Region, ...]:
        """Clip the regions to a tile, in the tile's pixels; a region that splits into parts becomes several.

        Args:
            corner: (x, y) of the tile in level-0 pixels.
            shape: (height, width) of the tile in its own pixels.
            scale: (y, x) level-0 pixels per tile pixel.
        """
        import shapely

        size = shape[1] * scale[1], shape[0] * scale[0]
        box = _box(corner, size)
        found = []
        for index in self.touching(corner, size):
            cut = self.polygons[index].intersection(box)
            for part in _polygons(cut):
                rings = (part.exterior, *part.interiors)
                exterior, *holes = (_ring(shapely.get_coordinates(ring)[:-1], corner, shape, scale) for ring in rings)
                found.append(Region(exterior, tuple(holes), self.regions[index].label))
        return tuple(found)

    def middle(self, index: int) -> tuple[float, float]:
        """Return a position (x, y) inside a region, away from its border where that is cheap to find."""
        point = self.polygons[index].representative_point()
        return point.x, point.y


def annotated(annotations: Annotations, corners: np.ndarray, *, side: float) -> np.ndarray:
    """Decide for each square with a corner in ``corners`` (N, 2) of (x, y) whether it touches a region or point.

    Args:
        annotations: in the same pixels as the corners.
        side: side of the squares; raising it marks more of them.

    Returns:
        (N,) bool.
    """
    import shapely

    points = shapely.points(np.array([(point.x, point.y) for point in annotations.points]).reshape(-1, 2))
    tree = shapely.STRtree([*RegionIndex(annotations.regions).polygons, *points])
    boxes = shapely.box(*corners.T, *(corners + side).T)
    marked = np.zeros(len(corners), dtype=bool)
    marked[tree.query(boxes, predicate="intersects")[0]] = True
    return marked


def _box(corner: tuple[float, float], size: tuple[float, float]) -> Any:
    import shapely

    return shapely.box(corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])


def _ring(
    vertices: np.ndarray, corner: tuple[float, float], shape: tuple[int, int], scale: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """Convert vertices (x, y) to the tile's pixels; those on its border stay exactly on it."""
    own = np.clip((vertices - corner) / scale[::-1], 0, shape[::-1])
    return tuple(map(tuple, own.tolist()))


def _polygons(geometry: Any) -> list[Any]:
    """List the polygons with an area in a geometry of any type."""
    if geometry.geom_type == "Polygon":
        return [geometry] if geometry.area > 0 else []
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in _polygons(part)]
