"""Find the pages of a TIFF that form its picture: one, or three that the file declares as red, green and blue."""

from typing import Any

import numpy as np
import tifffile

from cvm_monai.slides.image import UndeclaredChannelsError

COLOURS = (("red", "green", "blue"), ("r", "g", "b"))
"""Names of colour channels, case-insensitive."""


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
