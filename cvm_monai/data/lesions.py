"""Choose crops around lesions: those with most tumour that do not overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvm_monai.annotations import TARGET, UNLABELLED, Region
from cvm_monai.data.tiles import Tile, overlap, place

FULL = 0.9
"""Fraction of tumour above which a crop is chosen only after all others, since it has little background."""

WORTHWHILE = 0.01
"""Smallest fraction of tumour of the second and further crops of a slide; the first crop may have less."""


@dataclass(frozen=True)
class Crop:
    """A crop around lesions.

    Attributes:
        tile: its position.
        lesions: number of connected tumour regions that it intersects.
        share: fraction of its area that is tumour, in (0, 1].
    """

    tile: Tile
    lesions: int
    share: float


def choose_crops(
    regions: Sequence[Region], *, side: float, count: int, image_shape: tuple[int, int]
) -> tuple[Crop, ...]:
    """Choose at most ``count`` crops of a slide, the one with most tumour first.

    A lesion is a connected component of the target regions minus the exclusions. Candidates are centred on each lesion;
    a lesion larger than a crop is covered by candidates at steps of half a crop, its border included. The candidate
    with most tumour that overlaps no chosen crop is chosen next.

    Args:
        regions: in level-0 pixels.
        side: side of a crop.
        count: raising it gives more crops per patient; the paper has 193 crops of 158 slides.
        image_shape: (height, width) of the slide.
    """
    import shapely

    lesions = _lesions(regions)
    tree = shapely.STRtree(lesions)
    corners = {place(centre, side=side, image_shape=image_shape) for part in lesions for centre in _centres(part, side)}
    found = []
    for x, y in sorted(corners, key=lambda corner: (corner[1], corner[0])):
        box = shapely.box(x, y, min(x + side, image_shape[1]), min(y + side, image_shape[0]))
        reached = [lesions[index] for index in tree.query(box, predicate="intersects")]
        areas = shapely.area(shapely.intersection(reached, box)) if reached else np.zeros(0)
        if areas.sum() > 0:
            tile = Tile(x, y, kind="lesion")
            found.append(Crop(tile, int((areas > 0).sum()), min(1.0, float(areas.sum()) / side**2)))
    found.sort(key=lambda crop: (crop.share > FULL, -crop.share))
    chosen: list[Crop] = []
    for crop in found:
        apart = not any(overlap(crop.tile, other.tile, side) for other in chosen)
        if len(chosen) < count and apart and (not chosen or crop.share >= WORTHWHILE):
            chosen.append(crop)
    return tuple(chosen)


def _lesions(regions: Sequence[Region]) -> list[Any]:
    """Return the connected components of the tumour as prepared polygons."""
    import shapely

    covered, left_out = (
        shapely.union_all([shapely.Polygon(r.exterior, r.holes) for r in regions if r.label == label])
        for label in (TARGET, UNLABELLED)
    )
    parts = [part for part in shapely.get_parts(shapely.difference(covered, left_out)).tolist() if part.area > 0]
    shapely.prepare(parts)
    return parts


def _centres(part: Any, side: float) -> list[tuple[float, float]]:
    """List the centres of the candidate crops of a lesion."""
    x0, y0, x1, y1 = part.bounds
    across, down = (
        [(low + high) / 2]
        if high - low <= side
        else np.linspace(low, high, math.ceil(2 * (high - low) / side) + 1).tolist()
        for low, high in ((x0, x1), (y0, y1))
    )
    return [(x, y) for y in down for x in across]
