"""Translate annotations."""

from dataclasses import replace

from cvm_monai.annotations.model import Annotations, Ring


def moved(annotations: Annotations, x: float, y: float) -> Annotations:
    """Add (x, y) to the coordinates of all points and regions."""
    if (x, y) == (0, 0):
        return annotations

    def ring(vertices: Ring) -> Ring:
        return tuple((left + x, top + y) for left, top in vertices)

    points = tuple(replace(point, x=point.x + x, y=point.y + y) for point in annotations.points)
    regions = tuple(
        replace(region, exterior=ring(region.exterior), holes=tuple(map(ring, region.holes)))
        for region in annotations.regions
    )
    return replace(annotations, points=points, regions=regions)
