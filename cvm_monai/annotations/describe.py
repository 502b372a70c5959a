"""Summarise annotations in one sentence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cvm_monai.annotations.model import BACKGROUND, UNLABELLED, Annotations
from cvm_monai.annotations.outside import OUTSIDE, reaches


def describe(
    annotations: Annotations,
    *,
    names: Sequence[str] | Mapping[str, int] = ("background", "target"),
    image_shape: tuple[int, int] | None = None,
) -> str:
    """Summarise annotations: ``12 tumour, 9 stroma, 1 outside the image``; regions are named as such, background last.

    Args:
        names: class names by number; or the number of each name.
        image_shape: (height, width); annotations outside it are counted only as outside. None: all are counted.
    """
    titles = _titles(names)
    points = [point.label for point in annotations.points if image_shape is None or reaches(point, image_shape)]
    regions = [region.label for region in annotations.regions if image_shape is None or reaches(region, image_shape)]
    counts = Counter(annotations.counts)
    counts[OUTSIDE] += len(annotations.points) + len(annotations.regions) - len(points) - len(regions)
    parts = [f"{count} {_title(label, titles)}" for label, count in _ordered(points)]
    parts += [f"{count} {_title(label, titles)} region{'s' * (count > 1)}" for label, count in _ordered(regions)]
    parts += [f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: item[0] != OUTSIDE) if count]
    return ", ".join(parts) or "nothing"


def _titles(names: Sequence[str] | Mapping[str, int]) -> dict[int, str]:
    """Return the name of each label."""
    pairs = {label: name for name, label in names.items()} if isinstance(names, Mapping) else dict(enumerate(names))
    return {UNLABELLED: "exclusion"} | pairs


def _title(label: int, titles: Mapping[int, str]) -> str:
    return titles.get(label, f"class {label}")


def _ordered(labels: Iterable[int]) -> list[tuple[int, int]]:
    """Label and count: the foreground classes by number, background, exclusions."""
    return sorted(Counter(labels).items(), key=lambda item: (item[0] == UNLABELLED, item[0] == BACKGROUND, item[0]))
