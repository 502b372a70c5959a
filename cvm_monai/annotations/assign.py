"""Map the labels of parsed objects to classes: from the objects of a file to points and regions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cvm_monai.annotations.labels import SKIP, UnknownLabelsError, look_up
from cvm_monai.annotations.model import UNLABELLED, Colour, Point, Region
from cvm_monai.annotations.parsed_object import Outline, ParsedObject
from cvm_monai.annotations.repair import valid_regions

BATCH = 1024
"""Number of outlines that are checked together."""


def assign(
    found: Iterable[ParsedObject],
    *,
    table: Mapping[str, int],
    path: Path,
    counts: Counter[str],
    colours: dict[int, Colour] | None = None,
) -> Iterator[Point | Region]:
    """Yield the points and regions of parsed objects; regions come in groups, so that later points may come first.

    After the first unknown label nothing more is yielded; the rest is read to count all unknown labels.

    Args:
        table: label in lower case -> class index, see ``label_table``.
        path: the file, for error messages.
        counts: incremented for what is left out or repaired, by kind.
        colours: filled with the colour of each label, that of its first object.

    Raises:
        CvmError: unknown labels, all of them with their counts; an outline that crosses itself too often; or what
            reading raises.
    """
    unknown: Counter[str | None] = Counter()
    first = str(path)
    waiting: list[tuple[Outline, int]] = []
    places: list[str] = []
    for item in found:
        counts.update(item.other)
        if not item.points and not item.outlines:
            continue
        label = look_up(item.label, table, groups=item.groups)
        if label is None:
            first = first if unknown else item.where
            unknown[(item.label or "").strip() or None] += 1
        if unknown:
            continue
        assert label is not None
        if label == SKIP:
            counts["skip"] += 1
            continue
        if colours is not None and item.colour is not None:
            colours.setdefault(label, item.colour)
        yield from _points(item, label, counts)
        waiting += [(outline, label) for outline in item.outlines]
        places += [item.where] * len(item.outlines)
        if len(waiting) >= BATCH:
            yield from valid_regions(waiting, counts, places=places)
            waiting, places = [], []
    if unknown:
        raise UnknownLabelsError(first if unknown.total() == 1 else str(path), unknown, table)
    yield from valid_regions(waiting, counts, places=places)


def _points(item: ParsedObject, label: int, counts: Counter[str]) -> Iterator[Point]:
    """Yield the points of one object; points labelled as exclusions are left out."""
    if label == UNLABELLED:
        counts.update({"exclusion point": len(item.points)} if item.points else {})
        return
    for x, y in item.points:
        yield Point(x, y, label)
