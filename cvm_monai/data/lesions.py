"""Where to cut crops around lesions: those that hold most tumour, none overlapping another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvm_monai.annotations import TARGET, UNLABELLED, Region
from cvm_monai.data.tiles import Tile, overlap, place

FULL = 0.9
"""A crop with a larger share of tumour leaves little background to tell it from; it is taken only where all are so."""

WORTHWHILE = 0.01
"""Share of tumour from which a further crop of a slide is worth it; the first is taken with any."""


@dataclass(frozen=True)
class Crop:
    """A crop around lesions.

    Attributes:
        tile: its place.
        lesions: connected tumour regions that it reaches.
        share: of its area that is tumour, in (0, 1].
    """

    tile: Tile
    lesions: int
    share: float


def choose_crops(
    regions: Sequence[Region], *, side: float, count: int, image_shape: tuple[int, int]
) -> tuple[Crop, ...]:
    """At most ``count`` crops of a slide, the one with most tumour first.

    A lesion is a connected part of what target regions cover and no exclusion does. Candidates lie around the middle of
    each lesion, and at half their width over one that is larger than a crop, its border included. Each next one is the
    candidate with most tumour that overlaps none before.

    Args:
        regions: in level-0 pixels.
        side: of a crop.
        count: raising it gives more crops of the same patient; the paper has 193 of 158 slides.
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
    """Connected parts of the tumour as prepared polygons."""
    import shapely

    covered, left_out = (
        shapely.union_all([shapely.Polygon(r.exterior, r.holes) for r in regions if r.label == label])
        for label in (TARGET, UNLABELLED)
    )
    parts = [part for part in shapely.get_parts(shapely.difference(covered, left_out)).tolist() if part.area > 0]
    shapely.prepare(parts)
    return parts


def _centres(part: Any, side: float) -> list[tuple[float, float]]:
    """Where crops of a lesion may lie."""
    x0, y0, x1, y1 = part.bounds
    across, down = (
        [(low + high) / 2]
        if high - low <= side
        else np.linspace(low, high, math.ceil(2 * (high - low) / side) + 1).tolist()
        for low, high in ((x0, x1), (y0, y1))
    )
    return [(x, y) for y in down for x in across]
