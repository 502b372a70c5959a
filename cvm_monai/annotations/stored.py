"""Open image files without conversion, and decode label images to the stored numbers."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvm_monai.errors import CvmError

if TYPE_CHECKING:
    import tifffile
    from PIL import Image

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF or BigTIFF."""

COMPACT = ("PNG", "JPEG", "MPO", "BMP")
DENSEST = 2**14
"""Largest number of pixels in a byte of these formats: deflate compresses 1032 bytes into one, 8256 pixels of one bit.
A header that claims more is refused before memory is allocated."""

_LOSSY = (6, 7, 33007, 34892)
"""TIFF compression numbers of JPEG."""

_opening = threading.Lock()


def is_tiff(path: Path) -> bool:
    """Whether a file begins like a TIFF."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_MAGIC


def open_stored(path: Path, *, max_pixels: int, what: str) -> "Image.Image | tifffile.TiffFile":
    """Open a TIFF with tifffile, anything else with Pillow; checks the header, decodes nothing.

    Args:
        max_pixels: larger images are refused.
        what: what the file is, for the message.

    Raises:
        CvmError: no pixels, too many, or more than the file's bytes can hold.
        Exception: whatever a decoder raises for a file that is not an image.
    """
    if is_tiff(path):
        import tifffile

        opened: Any = tifffile.TiffFile(path)
    else:
        opened = open_unlimited(path)
    try:
        check_size(opened, path, max_pixels=max_pixels, what=what)
    except BaseException:
        opened.close()
        raise
    return opened


def open_unlimited(path: Path) -> "Image.Image":
    """Open with Pillow without its limit of 179 million pixels, which tissue images often exceed."""
    from PIL import Image

    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def stored_size(opened: Any) -> tuple[int, int]:
    """Return (height, width) of an opened file, for a TIFF those of its largest picture."""
    if hasattr(opened, "pages"):
        page = largest_series(opened).keyframe
        return page.imagelength, page.imagewidth
    return opened.height, opened.width


def largest_series(tiff: "tifffile.TiffFile") -> "tifffile.TiffPageSeries":
    """Return the largest series of pages of a TIFF, the first of equals.

    A thumbnail, label or macro image may come first in the file, but is never larger than the main picture.
    """
    series = tiff.series if _has_size(tiff.pages.first) else []
    if not series or not all(_has_size(one.keyframe) for one in series):
        raise CvmError("its header is damaged: height and width are not numbers")
    return max(series, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)


def _has_size(page: Any) -> bool:
    """Whether height and width are numbers; a damaged tag may have several values."""
    return isinstance(page.imagelength, int) and isinstance(page.imagewidth, int)


def check_size(opened: Any, path: Path, *, max_pixels: int, what: str) -> None:
    """Refuse, from the header, an image without pixels, with too many, or with more than its bytes can hold."""
    height, width = stored_size(opened)
    if not height * width:
        raise CvmError(f"it has no pixels ({width} x {height})")
    if height * width > max_pixels:
        raise CvmError(f"{width} x {height} px are too many for a {what}; cut it into tiles")
    size = path.stat().st_size
    if getattr(opened, "format", None) in COMPACT and height * width > DENSEST * size:
        raise CvmError(f"its {size} bytes cannot hold the {width} x {height} px that it claims: copy it again")


def stored_labels(opened: Any, path: Path) -> np.ndarray:
    """Decode the (H, W) integers that an opened label image stores, for any palette, polarity or depth.

    A palette image gives its indices; a file in which 0 is white (ImageJ's inverting look-up table) is not inverted;
    grey of 2 and 4 bits is not rescaled; 16 bits are kept; alpha channels are ignored.

    Raises:
        CvmError: colours, several channels, non-integers, or JPEG, which changes labels.
    """
    pixels = _tiff_samples(opened) if hasattr(opened, "pages") else _picture_samples(opened, path)
    if pixels.ndim == 3:
        colour = pixels.shape[2] not in (1, 3) or (pixels != pixels[..., :1]).any()
        if colour:
            raise CvmError("it has colours, where a mask is one channel of labels (0 = background)")
        pixels = pixels[..., 0]
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise CvmError(f"its pixels are {pixels.dtype}; save the labels as integers")
    return pixels


def png_header(path: Path) -> tuple[int, int]:
    """Read (bits per channel, colour type) of a PNG."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _picture_samples(image: Any, path: Path) -> np.ndarray:
    """Decode an image opened with Pillow to (H, W) or (H, W, channels) as stored, without alpha."""
    if image.format in ("JPEG", "MPO"):
        raise CvmError("JPEG changes labels near borders; save it as PNG")
    if image.format == "PNG":
        bits, kind = png_header(path)
        if bits == 16:  # Pillow keeps only the upper eight bits of images with several channels
            return _without_alpha(decode_png(path), alpha=kind & 4 > 0)
        if kind == 0 and bits in (2, 4):  # Pillow rescales these to 0 to 255
            return np.array(image) // np.uint8(255 // (2**bits - 1))
    return _without_alpha(np.array(image), alpha=image.mode in ("LA", "PA", "RGBA"))


def decode_png(path: Path) -> np.ndarray:
    """Decode a PNG to (H, W) or (H, W, channels) with all its bits."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _without_alpha(pixels: np.ndarray, *, alpha: bool) -> np.ndarray:
    return pixels[..., :-1] if alpha and pixels.ndim == 3 else pixels


def _tiff_samples(tiff: Any) -> np.ndarray:
    """Decode a TIFF's picture to (H, W) or (H, W, samples) as stored, without its extra samples."""
    series = largest_series(tiff)
    page = series.keyframe
    if page.compression in _LOSSY:
        raise CvmError("JPEG changes labels near borders; save it as PNG")
    planes = int(np.prod(series.shape)) // (page.imagelength * page.imagewidth * page.samplesperpixel)
    if planes > 1:
        raise CvmError(f"it has {planes} pages of one size, where a mask is one channel of labels; save that alone")
    pixels = page.asarray()
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    extra = len(page.extrasamples) if pixels.ndim == 3 else 0
    if extra and any(int(kind) == 0 for kind in page.extrasamples) and pixels.shape[2] - extra == 1:
        raise CvmError(f"it has {pixels.shape[2]} channels, where a mask is one channel of labels (0 = background)")
    return pixels[..., : pixels.shape[2] - extra] if extra else pixels
