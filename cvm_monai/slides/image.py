"""Flat images and label masks: PNG, JPEG, BMP and TIFF.

Pixels are taken as they are stored: an EXIF orientation is never applied, neither to images nor to masks nor to sizes,
so that (x, y) means the same pixel for all of them. Of a file with several pages the first one is read.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**30
"""Larger flat images are refused before they are decoded (2^30 pixels are 3 GiB of RGB)."""

COMPACT = ("PNG", "JPEG", "MPO", "BMP")
DENSEST = 2**14
"""Pixels that a byte of these formats can hold: deflate packs 1032 bytes into one, 8256 pixels of one bit. A header
that claims more is refused before memory is taken for it."""

_GREY16 = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_opening = threading.Lock()


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image as (H, W, 3) uint8 RGB.

    Grey becomes RGB, transparency lies on white, of 16 bits the upper eight are kept.

    Raises:
        ValueError: a file that is missing, unreadable or truncated, or pixels of another kind (float, many channels).
    """
    path = Path(path)
    with _sentences(path, "an image"), _open(path) as image:
        return _rgb(image) if isinstance(image, Image.Image) else _rgb_of_page(image.pages.first)


def read_mask(path: str | Path) -> np.ndarray:
    """Decode a label image as an (H, W) array of integers; of a palette the indices are kept.

    Raises:
        ValueError: a file that is missing, unreadable or truncated, a JPEG (compression changes labels), or colours.
    """
    path = Path(path)
    with _sentences(path, "a mask"), _open(path) as image:
        if not isinstance(image, Image.Image):
            return _labels(_samples_last(image.pages.first))
        if image.format in ("JPEG", "MPO"):
            raise ValueError("JPEG changes labels near borders; save it as PNG")
        return _labels(np.array(image.convert("L") if image.mode == "LA" else image))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) from the file's header, without decoding.

    Raises:
        ValueError: a file that is missing or no image.
    """
    path = Path(path)
    with _sentences(path, "an image"), _open(path) as image:
        return _size(image)


@contextmanager
def _sentences(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one ValueError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} cannot be read as {what}: unknown or damaged format") from None
    except MemoryError:
        raise ValueError(f"{path} cannot be read as {what}: not enough memory") from None
    except Exception as error:  # decoders raise many kinds
        raise ValueError(f"{path} cannot be read as {what}: {error_reason(error)}") from None


def error_reason(error: Exception) -> str:
    """What an error of a decoder says, in one line."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _open(path: Path) -> Image.Image | tifffile.TiffFile:
    """The file opened by Pillow, or by tifffile where Pillow cannot read it as it is stored; nothing is decoded yet."""
    image = _open_stored(path)
    height, width = _size(image)
    if not isinstance(height, int) or not isinstance(width, int):  # a tag that was given several values
        image.close()
        raise ValueError("its header is damaged: height and width are no numbers")
    if not height * width:
        image.close()
        raise ValueError(f"it has no pixels ({width} x {height})")
    if height * width > MAX_PIXELS:
        image.close()
        raise ValueError(f"{width} x {height} px are too many for a flat image; cut it into tiles")
    size = path.stat().st_size
    if getattr(image, "format", None) in COMPACT and height * width > DENSEST * size:
        image.close()
        raise ValueError(f"its {size} bytes cannot hold the {width} x {height} px that it claims: copy it again")
    return image


def _open_stored(path: Path) -> Image.Image | tifffile.TiffFile:
    """Pillow refuses some TIFFs, takes others with 16 bits for 8, and turns those that have an orientation."""
    try:
        image = _open_unlimited(path)
    except UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        return tifffile.TiffFile(path)
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.Orientation, 1) == 1 and max(tags.get(ExifTags.Base.BitsPerSample, (8,))) <= 8:
        return image
    image.close()
    return tifffile.TiffFile(path)


def _open_unlimited(path: Path) -> Image.Image:
    """Open by Pillow without its limit of 179 million pixels, which is a common size of tissue images."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _size(image: Image.Image | tifffile.TiffFile) -> tuple[int, int]:
    """(height, width) of an opened file."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    page = image.pages.first
    return page.imagelength, page.imagewidth


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image opened by Pillow."""
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers; save it with 8 bits per channel")
    if image.mode in _GREY16:
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _rgb_of_page(page: tifffile.TiffPage) -> np.ndarray:
    """(H, W, 3) uint8 of a TIFF page."""
    return rgb_of_samples(_samples_last(page), page.photometric)


def rgb_of_samples(pixels: np.ndarray, photometric: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of decoded TIFF samples, (H, W) or (H, W, samples); see `read_image`.

    Raises:
        ValueError: pixels of another kind.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype != np.uint8 or photometric == tifffile.PHOTOMETRIC.SEPARATED:
        kind = "CMYK" if pixels.dtype == np.uint8 else pixels.dtype
        raise ValueError(f"its pixels are {kind}; save it as RGB with 8 bits per channel")
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = ~pixels
    if pixels.ndim == 3 and pixels.shape[2] > 4:
        raise ValueError(f"it has {pixels.shape[2]} channels; save it as RGB")
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    return _rgb(Image.fromarray(pixels))  # L, LA, RGB or RGBA by its shape


def _samples_last(page: tifffile.TiffPage) -> np.ndarray:
    """The page's pixels, (H, W) or (H, W, samples)."""
    pixels = page.asarray()
    return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def _labels(pixels: np.ndarray) -> np.ndarray:
    """One channel of integers, or a sentence; the alpha channel of a grey RGBA is passed over."""
    if pixels.ndim == 3:
        if pixels.shape[2] not in (3, 4) or (pixels[..., :3] != pixels[..., :1]).any():
            raise ValueError("it has colours, where a mask is one channel of labels (0 = background)")
        pixels = pixels[..., 0]
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"its pixels are {pixels.dtype}; save the labels as integers")
    return pixels
