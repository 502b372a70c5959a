"""Resolve overlapping regions of several classes: the inner one wins, as in QuPath's object hierarchy.

A tumour outlined inside a region of stroma is tumour, not stroma. Exclusions win over everything they cover.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import shapely

from cvm_monai.annotations.model import UNLABELLED, Annotations, Region
from cvm_monai.annotations.repair import polygons, region_of
from cvm_monai.errors import CvmError

OVERLAP = "overlap of two classes"
"""Kind of count: pairs of overlapping regions, neither inside the other; their intersection is unlabelled."""

EXCLUDED = "region inside an exclusion"

NESTED = 0.99
"""Fraction of a region's area that must lie in another one for it to count as inside (an outline may follow the other's
border); its area must also be at most this fraction of the other's (two drawings of one object are not nested)."""

PAIRS, PAIRS_EACH = 5_000, 5
"""Largest number of overlapping pairs of regions of different classes: in all, or for each region. A pair takes about a
millisecond; nested drawings have two or three for each region."""

TOGETHER = 256
"""Number of regions whose pairs are searched for together."""

SMALLEST = 1.0
"""Smallest intersection, in level-0 pixels, that is an overlap: neighbours with rounded vertices have less."""


def nest(regions: Sequence[Region], counts: Counter[str] | None = None) -> tuple[Region, ...]:
    """Resolve overlaps of regions: outer ones get holes where inner ones of another class lie.

    A region lies inside a larger one if at least 99 % of its area does. An outer region may split into parts, or vanish
    where inner ones cover it. Other intersections of two classes are cut out of both and appended as exclusions, so
    that they stay unlabelled when the regions are clipped to a tile.

    Args:
        regions: valid regions.
        counts: incremented for ``overlap of two classes``, by pair, and ``region inside an exclusion``.

    Raises:
        CvmError: too many pairs of overlapping regions.
    """
    shapes = _shapes(regions)
    taken: dict[int, list[shapely.Geometry]] = defaultdict(list)
    excluded: set[int] = set()
    shared: list[Region] = []
    tally = Counter() if counts is None else counts
    for small, large, inside in _overlapping(regions, shapes):
        labels = regions[small].label, regions[large].label
        if UNLABELLED in labels:
            excluded |= {small} if inside and labels[1] == UNLABELLED else set()
        elif inside:
            taken[large].append(shapes[small])
        else:
            tally[OVERLAP] += 1
            both = shapely.intersection(shapes[small], shapes[large])
            taken[small].append(both)
            taken[large].append(both)
            shared += _parts(both, UNLABELLED)
    if excluded:
        tally[EXCLUDED] += len(excluded)
    found: list[Region] = []
    for index, region in enumerate(regions):
        if index in taken:
            found += _parts(shapely.difference(shapes[index], shapely.union_all(taken[index])), region.label)
        else:
            found.append(region)
    return (*found, *shared)


def with_overlaps(annotations: Annotations, *, file: object) -> Annotations:
    """Add the number of conflicting overlaps of regions to the annotations' counts, see ``nest``.

    Args:
        file: the annotation file, for the message.

    Raises:
        CvmError: too many pairs of overlapping regions.
    """
    counts: Counter[str] = Counter()
    try:
        nest(annotations.regions, counts)
    except ValueError as error:
        raise CvmError(f"{file}: {error}") from None
    return replace(annotations, counts={**annotations.counts, **counts}) if counts else annotations


def overlap_warnings(counts: Mapping[str, int], file: object) -> Iterator[str]:
    """Yield warnings about conflicting overlaps of regions in a file."""
    if pairs := counts.get(OVERLAP):
        yield (
            f"{file}: {pairs} pair{'s' * (pairs > 1)} of regions of different classes overlap and neither lies inside "
            "the other: what they share is unlabelled; draw them apart, or one inside the other"
        )
    if inside := counts.get(EXCLUDED):
        yield (
            f"{file}: {inside} region{'s' * (inside > 1)} inside an exclusion: nothing is learnt there; cut the "
            "exclusion, or remove what it covers"
        )


def covering(regions: Sequence[Region], others: Sequence[Region]) -> dict[int, list[Region]]:
    """Find for each region, by its index, the others that intersect or touch it."""
    found: dict[int, list[Region]] = defaultdict(list)
    if regions and others:
        pairs = shapely.STRtree(_shapes(others)).query(_shapes(regions), predicate="intersects")
        for index, other in pairs.T.tolist():
            found[index].append(others[other])
    return found


def _shapes(regions: Sequence[Region]) -> np.ndarray:
    """Convert the regions to shapely polygons, (N,)."""
    return np.array([shapely.Polygon(region.exterior, region.holes) for region in regions], dtype=object)


def _overlapping(regions: Sequence[Region], shapes: np.ndarray) -> list[tuple[int, int, bool]]:
    """Find overlapping regions of different labels: (smaller, larger, whether the smaller is inside the larger)."""
    labels = np.array([region.label for region in regions])
    if len(np.unique(labels)) < 2:
        return []
    one, other = _pairs(labels, shapes)
    area = shapely.area(shapes)
    swapped = area[one] > area[other]
    small, large = np.where(swapped, other, one), np.where(swapped, one, other)
    shared = area[small].copy()
    partly = ~shapely.covers(shapes[large], shapes[small])
    shared[partly] = shapely.area(shapely.intersection(shapes[small[partly]], shapes[large[partly]]))
    inside = (shared >= NESTED * area[small]) & (area[small] < NESTED * area[large])
    overlap = shared >= np.minimum(SMALLEST, area[small] / 2)
    return sorted(zip(small[overlap].tolist(), large[overlap].tolist(), inside[overlap].tolist(), strict=True))


def _pairs(labels: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the indices of all pairs of regions of different labels whose interiors intersect."""
    shapely.prepare(shapes)
    tree, found, most = shapely.STRtree(shapes), [], max(PAIRS, PAIRS_EACH * len(shapes))
    count = 0
    for start in range(0, len(shapes), TOGETHER):
        one, other = tree.query(shapes[start : start + TOGETHER], predicate="intersects")
        one += start
        some = (one < other) & (labels[one] != labels[other])
        one, other = one[some], other[some]
        some = ~shapely.touches(shapes[one], shapes[other])
        found.append((one[some], other[some]))
        count += int(np.count_nonzero(some))
        if count > most:
            raise CvmError(
                f"its {len(shapes)} regions lie on regions of other classes in more than {most} pairs: draw them "
                "apart, or leave one set of them out"
            )
    one, other = (np.concatenate(numbers) for numbers in zip(*found, strict=True))
    return one, other


def _parts(geometry: shapely.Geometry, label: int) -> list[Region]:
    """Convert the polygons in a geometry of any type to regions."""
    return [region_of(part, label) for part in polygons(geometry) if part.area > 0]
