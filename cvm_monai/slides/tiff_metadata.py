"""What a TIFF says of itself: which pages form its picture, one or three (red, green, blue), and its um/px."""

import re
from typing import Any

import numpy as np
import tifffile

from cvm_monai.slides.image import UndeclaredChannelsError

COLOURS = (("red", "green", "blue"), ("r", "g", "b"))
"""Names of colour channels, case-insensitive."""


UNITS = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "\N{ANGSTROM SIGN}": 1e-4,
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": 1e-4,
    "in": 25400.0,
    "ft": 304_800.0,
    "pt": 25400.0 / 72,
    "thou": 25.4,
    "li": 25400.0 / 12,
    "km": 1e9,
}
"""um per unit of OME's PhysicalSizeXUnit; `pixel` and `reference frame` are not lengths."""

_IMAGEJ = UNITS | {
    "micron": 1.0,
    "\\u00B5m": 1.0,
    "\\u03BCm": 1.0,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "inch": 25400.0,
    "inche": 25400.0,
    '"': 25400.0,
}
"""um per unit of ImageJ's Properties, without the plural s; non-ASCII characters are escaped."""

_APERIO = re.compile(r"\|\s*MPP\s*=\s*([0-9.,]+)")

_INCH, _CENTIMETRE = 2, 3


def ome_pixels(tiff: tifffile.TiffFile, size: tuple[int, int]) -> Any:
    """Find the OME-XML Pixels element of a picture of (height, width): the first one of that size, else None.

    None for a text that is not XML or declares entities.
    """
    if not (tiff.is_ome and tiff.ome_metadata):
        return None
    return find_pixels(tiff.ome_metadata, size)


def find_pixels(xml: str, size: tuple[int, int] | None = None) -> Any:
    """Find a Pixels element as `ome_pixels`; without a size the first one of the text."""
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(xml.encode())
    except Exception:  # defusedxml raises its own types for forbidden content
        return None
    found = [element for element in root.iter() if _name(element) == "Pixels"]
    wanted = None if size is None else (str(size[0]), str(size[1]))
    same = [element for element in found if wanted in (None, (element.get("SizeY"), element.get("SizeX")))]
    return next(iter(same or found), None)


def colour_planes(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, pixels: Any) -> tuple[int, int]:
    """Return how many pages form the picture (1, or 3 for red, green and blue), and from how many it is chosen.

    Args:
        series: pages of one size.
        pixels: the result of `ome_pixels`.

    Raises:
        UndeclaredChannelsError: pages that are, or may be, channels without declared colours.
    """
    page, sizes = series.keyframe, dict(zip(series.axes, series.shape, strict=True))
    pages = int(np.prod(series.shape)) // (page.imagelength * page.imagewidth * page.samplesperpixel)
    if pages == 1:
        return 1, 1
    if page.samplesperpixel > 1:  # each page is a colour image
        if sizes.get("C", 1) > 1:
            raise UndeclaredChannelsError(f"its channels are separate pages ({pages} pages); save it as RGB")
        return 1, pages
    if set(series.axes) <= {"Z", "T", "Y", "X"}:  # grey focal planes or time points, not channels
        return 1, pages
    if pages == 3 and len(series.levels[0].pages) == 3 and (_ome_says_rgb(pixels) or _imagej_says_rgb(tiff)):
        return 3, 3
    raise UndeclaredChannelsError(
        f"its channels are separate pages ({pages} grey pages, fluorescence?), and it does not say that they are red, "
        "green and blue; save it as RGB"
    )


def _ome_says_rgb(pixels: Any) -> bool:
    """Whether OME-XML declares RGB: one channel of three samples, or three named by colours, or of bright field."""
    if pixels is None or pixels.get("SizeC") != "3":
        return False
    channels = [element for element in pixels if _name(element) == "Channel"]
    if any(channel.get("SamplesPerPixel") == "3" for channel in channels):
        return True
    if len(channels) != 3:
        return False
    named = tuple((channel.get("Name") or "").strip().lower() for channel in channels)
    return named in COLOURS or all(channel.get("ContrastMethod") == "Brightfield" for channel in channels)


def _imagej_says_rgb(tiff: tifffile.TiffFile) -> bool:
    """Whether ImageJ labelled three slices by colours, as in its RGB stacks."""
    found = (tiff.imagej_metadata or {}).get("Labels") if tiff.is_imagej else None
    return tuple(str(label).strip().lower() for label in found or ()) in COLOURS


def _name(element: Any) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def tiff_mpp(page: tifffile.TiffPage, pixels: Any = None) -> tuple[float, float] | None:
    """Read um/px (x, y) of a page of a TIFF; None where it states none.

    Args:
        page: the picture's page.
        pixels: the picture's OME-XML element, see `ome_pixels`.
    """
    found = _of_pixels(pixels)
    if found is not None:
        return found
    description = page.description or ""
    aperio = _APERIO.search(description) if description.startswith("Aperio") else None
    if aperio:
        value = _number(aperio[1])
        return None if value is None else (value, value)
    return _of_tags(page, description)


def ome_mpp(xml: str) -> tuple[float, float] | None:
    """Read um/px (x, y) of the first image of an OME-XML text; None where it has none or is not XML."""
    return _of_pixels(find_pixels(xml))


def _of_pixels(pixels: Any) -> tuple[float, float] | None:
    """Read um/px (x, y) of a Pixels element."""
    if pixels is None:
        return None
    x, y = (_length(pixels, f"PhysicalSize{axis}") for axis in "XY")
    return None if x is None or y is None else (x, y)


def _length(pixels: Any, name: str) -> float | None:
    """Read an OME length in um."""
    unit = UNITS.get(pixels.get(f"{name}Unit", "um").strip())
    value = _number(pixels.get(name, ""))
    return None if unit is None or value is None else value * unit


def _of_tags(page: tifffile.TiffPage, description: str) -> tuple[float, float] | None:
    """Compute um/px from XResolution and YResolution (pixels per unit), with ImageJ's unit where it states one."""
    stated = page.tags.valueof("ResolutionUnit", default=None)
    imagej = description.startswith("ImageJ=")
    named = re.search(r"^unit=(.+)$", description, re.MULTILINE) if imagej else None
    if named:
        text = named[1].strip()
        unit = _IMAGEJ.get(text, _IMAGEJ.get(text.lower().replace("metre", "meter").removesuffix("s")))
    elif imagej and stated is None:
        unit = None
    else:
        unit = {_INCH: 25400.0, _CENTIMETRE: 1e4}.get(int(_INCH if stated is None else stated))
    values = [_rational(page.tags.valueof(name, default=None)) for name in ("XResolution", "YResolution")]
    if unit is None or values[0] is None or values[1] is None:
        return None
    return unit / values[0], unit / values[1]


def _rational(value: Any) -> float | None:
    """Convert a TIFF rational to a number above 0, or None."""
    try:
        number = value[0] / value[1]
    except (TypeError, ZeroDivisionError, IndexError):
        return None
    return number if number > 0 else None


def _number(text: str) -> float | None:
    """Parse a number, also with a decimal comma."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return None
