"""Where coordinates count from: the corner of level 0, or of the part of the slide that was scanned, as in QuPath."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import Origin

if TYPE_CHECKING:
    from cvm_monai.slides.slide import SlideImage


@dataclass(frozen=True)
class Bounds:
    """The part of level 0 that was scanned, in its pixels; what lies around it is empty."""

    x: int
    y: int
    width: int
    height: int


def read_bounds(properties: Mapping[str, str], size: tuple[int, int]) -> Bounds | None:
    """The part that OpenSlide's properties name; None where they name none, or all of (height, width)."""
    try:
        found = Bounds(*(int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")))
    except (KeyError, ValueError):
        return None
    return None if found == Bounds(0, 0, size[1], size[0]) else found


def corner(image: "SlideImage", origin: Origin) -> tuple[int, int]:
    """(x, y) in level-0 pixels that coordinates count from.

    Raises:
        CvmError: an unknown origin.
    """
    if origin not in get_args(Origin):
        raise CvmError(f"--origin must be one of {', '.join(get_args(Origin))}, got {origin!r}")
    if origin == "level0" or image.bounds is None:
        return (0, 0)
    return (image.bounds.x, image.bounds.y)


def warnings_of(image: "SlideImage", origin: Origin) -> tuple[str, ...]:
    """The image's warnings, where coordinates count from the scanned part with a note that they do."""
    if origin == "level0" or image.bounds is None:
        return image.warnings
    others = tuple(sentence for sentence in image.warnings if sentence != crop_warning(image.path, image.bounds))
    x, y = corner(image, origin)
    return (
        *others,
        f"{image.path}: coordinates count from ({x}, {y}), the corner of the part that was scanned, as QuPath's do",
    )


def crop_warning(path: Path, bounds: Bounds) -> str:
    """That QuPath counts otherwise."""
    return (
        f"{path}: the {bounds.width} x {bounds.height} px at ({bounds.x}, {bounds.y}) were scanned, and QuPath counts "
        "coordinates from there; here they count from the corner of all: give --origin bounds where the command has "
        "it, or open the slide in QuPath with --no-crop"
    )
