"""The annotations of an image: points and regions with class indices, and a count of what was left out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cvm_monai.errors import CvmError

BACKGROUND = 0
TARGET = 1
UNLABELLED = 255
"""The value of a pixel without annotation, and the label of an exclusion region."""

Ring = tuple[tuple[float, float], ...]
"""Vertices (x, y) in level-0 pixels; the first is not repeated at the end."""

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""


@dataclass(frozen=True)
class Point:
    """One click at (x, y) level-0 pixels; pixel (row, column) covers [column, column + 1) x [row, row + 1).

    Example:
        >>> import cvm_monai as cvm
        >>> cvm.Point(12.5, 30.5, label=1)
        Point(x=12.5, y=30.5, label=1)
    """

    x: float
    y: float
    label: int


@dataclass(frozen=True)
class Region:
    """A polygon with holes, in level-0 pixels; label 255 excludes what it covers.

    Example:
        >>> import cvm_monai as cvm
        >>> square = cvm.Region(exterior=((0, 0), (8, 0), (8, 8), (0, 8)), holes=(), label=1)
        >>> square.label
        1
    """

    exterior: Ring
    holes: tuple[Ring, ...]
    label: int


@dataclass(frozen=True)
class Annotations:
    """The points and regions of one image, in the order of the file.

    Attributes:
        points: labels are class indices (0 = background, 1 = target, from 2 the further classes).
        regions: labels are class indices, or 255 for an exclusion.
        counts: number of objects left out or repaired, by kind: ``{"LineString": 2, "skip": 1}``.
        colours: the colour of each label, that of its first object in the file; not compared by ``==``.

    Example:
        >>> import cvm_monai as cvm
        >>> clicks = cvm.Annotations(points=(cvm.Point(3.5, 4.5, label=1), cvm.Point(20.5, 9.5, label=0)))
        >>> sorted(clicks.labels())
        [0, 1]
    """

    points: tuple[Point, ...] = ()
    regions: tuple[Region, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[int, Colour] = field(default_factory=dict, compare=False)

    def labels(self) -> frozenset[int]:
        """Return the classes of the points and regions, without exclusions."""
        found = {point.label for point in self.points} | {region.label for region in self.regions}
        return frozenset(found - {UNLABELLED})


def first_pairs(points: Iterable[Point], pairs: int) -> tuple[Point, ...]:
    """Return the first ``pairs`` points of each class, in their order, so that fewer are used without resampling.

    Args:
        pairs: points kept of each class; raising it gives more supervision, and more work to the annotator. From 1.

    Raises:
        CvmError: fewer than one.
    """
    if pairs < 1:
        raise CvmError(f"pairs must be at least 1, got {pairs}")
    seen: Counter[int] = Counter()
    kept = []
    for point in points:
        seen[point.label] += 1
        if seen[point.label] <= pairs:
            kept.append(point)
    return tuple(kept)
