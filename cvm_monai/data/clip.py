"""Regions cut to a tile: polygons with holes in the tile's own pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvm_monai.annotations import Annotations, Region


class RegionIndex:
    """The regions of a slide, found by place and clipped to rectangles; lesions of 10,000s of vertices are cut once.

    Args:
        regions: valid ones, as `read_annotations` gives them, in level-0 pixels.
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        import shapely

        self.regions = tuple(regions)
        self.polygons: list[Any] = [shapely.Polygon(region.exterior, region.holes) for region in self.regions]
        shapely.prepare(self.polygons)
        self._tree = shapely.STRtree(self.polygons)

    def touching(self, corner: tuple[float, float], size: tuple[float, float]) -> list[int]:
        """Indices of the regions that share area or border with a rectangle of (width, height) level-0 pixels."""
        return sorted(self._tree.query(_box(corner, size), predicate="intersects").tolist())

    def clip(
        self, corner: tuple[float, float], *, shape: tuple[int, int], scale: tuple[float, float]
    ) -> tuple[Region, ...]:
        """The regions inside a tile, in its own pixels; one that falls into parts becomes several.

        Args:
            corner: (x, y) of the tile in level-0 pixels.
            shape: (height, width) of the tile in its own pixels.
            scale: (y, x) level-0 pixels of one pixel of the tile.
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
        """A position (x, y) inside a region, away from its border where that is cheap to find."""
        point = self.polygons[index].representative_point()
        return point.x, point.y


def annotated(annotations: Annotations, corners: np.ndarray, *, side: float) -> np.ndarray:
    """Whether each square of a side at ``corners`` (N, 2) of (x, y) shares area or border with a region or point.

    Args:
        annotations: in the pixels of the corners.
        side: of the squares; raising it marks more of them.

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
    """Vertices (x, y) in the tile's pixels; those on its border stay there, whatever rounding does."""
    own = np.clip((vertices - corner) / scale[::-1], 0, shape[::-1])
    return tuple(map(tuple, own.tolist()))


def _polygons(geometry: Any) -> list[Any]:
    """The polygons with an area in a geometry of any kind."""
    if geometry.geom_type == "Polygon":
        return [geometry] if geometry.area > 0 else []
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in _polygons(part)]
