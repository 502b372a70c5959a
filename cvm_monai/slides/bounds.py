"""The origin of coordinates: the corner of level 0, or of the scanned part of the slide, as in QuPath."""

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
    """The scanned rectangle of level 0, in level-0 pixels; the area around it is empty."""

    x: int
    y: int
    width: int
    height: int


def read_bounds(properties: Mapping[str, str], size: tuple[int, int]) -> Bounds | None:
    """Read the scanned part from OpenSlide's properties; None where they have none, or where it is all of the slide."""
    try:
        found = Bounds(*(int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")))
    except (KeyError, ValueError):
        return None
    return None if found == Bounds(0, 0, size[1], size[0]) else found


def corner(image: "SlideImage", origin: Origin) -> tuple[int, int]:
    """Return the origin of coordinates, (x, y) in level-0 pixels.

    Raises:
        CvmError: an unknown origin.
    """
    if origin not in get_args(Origin):
        raise CvmError(f"--origin must be one of {', '.join(get_args(Origin))}, got {origin!r}")
    if origin == "level0" or image.bounds is None:
        return (0, 0)
    return (image.bounds.x, image.bounds.y)


def warnings_of(image: "SlideImage", origin: Origin) -> tuple[str, ...]:
    """Return the image's warnings, and a note if the origin of coordinates is the scanned part."""
    if origin == "level0" or image.bounds is None:
        return image.warnings
    others = tuple(sentence for sentence in image.warnings if sentence != crop_warning(image.path, image.bounds))
    x, y = corner(image, origin)
    return (
        *others,
        f"{image.path}: coordinates count from ({x}, {y}), the corner of the part that was scanned, as QuPath's do",
    )


def crop_warning(path: Path, bounds: Bounds) -> str:
    """Make the warning that QuPath counts coordinates from the scanned part."""
    return (
        f"{path}: the {bounds.width} x {bounds.height} px at ({bounds.x}, {bounds.y}) were scanned, and QuPath counts "
        "coordinates from there; here they count from the corner of all: give --origin bounds where the command has "
        "it, or open the slide in QuPath with --no-crop"
    )
