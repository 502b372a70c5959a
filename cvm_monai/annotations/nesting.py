"""Regions of several classes that lie on each other: the inner one wins, as in QuPath's hierarchy of objects.

An outline drawn around a tumour that lies in a region of stroma means that the tumour is no stroma. Exclusions win over
whatever they cover.
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
"""Pairs of regions of which neither lies inside the other: what they share is unlabelled."""

EXCLUDED = "region inside an exclusion"

NESTED = 0.99
"""The part of a region that must lie inside another one, so that an outline drawn along its border counts as inside;
and how much smaller it must be, so that two drawings of the same thing are equals."""

PAIRS, PAIRS_EACH = 5_000, 5
"""Pairs of regions of different classes that may lie on each other: so many, or so many for each region. A pair takes
about a millisecond; nested drawings have two or three for each region."""

TOGETHER = 256
"""Regions whose pairs are looked for at once."""

SMALLEST = 1.0
"""Level-0 pixels that regions share from which they overlap: neighbours with rounded vertices do not."""


def nest(regions: Sequence[Region], counts: Counter[str] | None = None) -> tuple[Region, ...]:
    """Regions that do not contradict each other: outer ones have holes where inner ones of another class lie.

    A region lies inside a larger one where at least 99 % of its area do. An outer region may fall into parts, or vanish
    where inner ones cover it. What two classes share otherwise is cut out of both and follows as exclusions, so that it
    stays unlabelled also where the regions are cut to a tile.

    Args:
        regions: valid ones.
        counts: gains ``overlap of two classes``, by pair, and ``region inside an exclusion``.

    Raises:
        CvmError: regions that lie on each other nearly everywhere.
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
    """The same, with a count of the regions that contradict each other, see ``nest``.

    Args:
        file: that they come from, for the sentence.

    Raises:
        CvmError: regions that lie on each other nearly everywhere.
    """
    counts: Counter[str] = Counter()
    try:
        nest(annotations.regions, counts)
    except ValueError as error:
        raise CvmError(f"{file}: {error}") from None
    return replace(annotations, counts={**annotations.counts, **counts}) if counts else annotations


def overlap_warnings(counts: Mapping[str, int], file: object) -> Iterator[str]:
    """Sentences on regions of a file that contradict each other."""
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
    """For each region, by its index, the others that share area or border with it."""
    found: dict[int, list[Region]] = defaultdict(list)
    if regions and others:
        pairs = shapely.STRtree(_shapes(others)).query(_shapes(regions), predicate="intersects")
        for index, other in pairs.T.tolist():
            found[index].append(others[other])
    return found


def _shapes(regions: Sequence[Region]) -> np.ndarray:
    """The regions as polygons of shapely's, (N,)."""
    return np.array([shapely.Polygon(region.exterior, region.holes) for region in regions], dtype=object)


def _overlapping(regions: Sequence[Region], shapes: np.ndarray) -> list[tuple[int, int, bool]]:
    """The smaller and the larger of two regions of different labels that share area, and whether it lies inside."""
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
    """The numbers of every two regions of different labels that share more than borders."""
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
    """The regions that a geometry of any kind covers."""
    return [region_of(part, label) for part in polygons(geometry) if part.area > 0]
