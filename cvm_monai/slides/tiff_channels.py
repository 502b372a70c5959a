"""Which pages of a TIFF make its picture: one, or three of which the file says that they are red, green and blue."""

from typing import Any

import numpy as np
import tifffile

from cvm_monai.slides.image import UndeclaredChannelsError

COLOURS = (("red", "green", "blue"), ("r", "g", "b"))
"""Names of channels, in any case, that say what they are."""


def ome_pixels(tiff: tifffile.TiffFile, size: tuple[int, int]) -> Any:
    """The Pixels element of OME-XML that describes a picture of (height, width): the first of its size, else None.

    A text that is not XML, or that asks for entities, says nothing.
    """
    if not (tiff.is_ome and tiff.ome_metadata):
        return None
    return find_pixels(tiff.ome_metadata, size)


def find_pixels(xml: str, size: tuple[int, int] | None = None) -> Any:
    """See `ome_pixels`; without a size the first Pixels element of the text."""
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(xml.encode())
    except Exception:  # defusedxml has its own kinds for what it forbids
        return None
    found = [element for element in root.iter() if _name(element) == "Pixels"]
    wanted = None if size is None else (str(size[0]), str(size[1]))
    same = [element for element in found if wanted in (None, (element.get("SizeY"), element.get("SizeX")))]
    return next(iter(same or found), None)


def colour_planes(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, pixels: Any) -> tuple[int, int]:
    """How many pages make the picture (1, or 3 that hold red, green and blue), and how many pages it is chosen from.

    Args:
        series: of pages of one size.
        pixels: of `ome_pixels`.

    Raises:
        UndeclaredChannelsError: pages that are channels, or that may be: nothing says what they show.
    """
    page, sizes = series.keyframe, dict(zip(series.axes, series.shape, strict=True))
    pages = int(np.prod(series.shape)) // (page.imagelength * page.imagewidth * page.samplesperpixel)
    if pages == 1:
        return 1, 1
    if page.samplesperpixel > 1:  # each page has its colours
        if sizes.get("C", 1) > 1:
            raise UndeclaredChannelsError(f"its channels are separate pages ({pages} pages); save it as RGB")
        return 1, pages
    if set(series.axes) <= {"Z", "T", "Y", "X"}:  # grey planes or moments, not channels
        return 1, pages
    if pages == 3 and len(series.levels[0].pages) == 3 and (_ome_says_rgb(pixels) or _imagej_says_rgb(tiff)):
        return 3, 3
    raise UndeclaredChannelsError(
        f"its channels are separate pages ({pages} grey pages, fluorescence?), and it does not say that they are red, "
        "green and blue; save it as RGB"
    )


def _ome_says_rgb(pixels: Any) -> bool:
    """Whether OME-XML has three channels that are one with three samples, named by colours, or of bright field."""
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
    """Whether ImageJ labelled three slices by colours, as its RGB stacks are."""
    found = (tiff.imagej_metadata or {}).get("Labels") if tiff.is_imagej else None
    return tuple(str(label).strip().lower() for label in found or ()) in COLOURS


def _name(element: Any) -> str:
    """An element's name without its name space."""
    return str(element.tag).rpartition("}")[2]
