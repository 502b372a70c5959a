"""Decode flat images (Pillow) and label masks, and convert samples of any depth to RGB.

Pixels are taken as they are stored: an EXIF orientation is never applied, neither to images nor to masks nor to sizes,
so that (x, y) means the same pixel for all of them. If a file has several pictures the largest one is read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

from cvm_monai.annotations.stored import (
    check_size,
    decode_png,
    is_tiff,
    largest_series,
    open_stored,
    open_unlimited,
    png_header,
    stored_labels,
    stored_size,
)
from cvm_monai.errors import CvmError
from cvm_monai.slides.depth import brightest_bits, brightness, to_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**30
"""Largest number of pixels of a flat image; checked before decoding (2^30 pixels are 3 GiB of RGB)."""

SINGLE_ALPHA = (1, 2)
"""TIFF's types of extra samples that are alpha: premultiplied, or not."""


class UndeclaredChannelsError(CvmError):
    """A file with channels that are not declared as RGB: a reader would show one, or any three, as the picture."""


def read_mask(path: str | Path) -> np.ndarray:
    """Decode a label image as an (H, W) array of the integers that the file stores, see `stored_labels`.

    Raises:
        CvmError: a file that is missing, unreadable or truncated, a JPEG (compression changes labels), or colours.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> mask = cvm.read_mask("data/phantom/masks/case_000.png")
        >>> np.unique(mask).tolist()
        [0, 255]
    """
    path = Path(path)
    with sentences(path, "a mask"), open_stored(path, max_pixels=MAX_PIXELS, what="flat image") as opened:
        return stored_labels(opened, path)


def flat_size(path: Path) -> tuple[int, int]:
    """Read (height, width) from the file's header, without decoding.

    Raises:
        CvmError: a file that is missing or not an image.
    """
    with sentences(path, "an image"), open_stored(path, max_pixels=MAX_PIXELS, what="flat image") as opened:
        return stored_size(opened)


def decode_flat(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode an image as (H, W, 3) uint8 RGB, with warnings for the user.

    Grey becomes RGB, transparency is composited on white, more than 8 bits are scaled, see `depth`.

    Raises:
        CvmError: a file that is missing, unreadable or truncated, or pixels of another type (float, many channels).
    """
    with sentences(path, "an image"):
        if is_tiff(path):
            return _decode_tiff(path), ()
        with open_unlimited(path) as image:
            check_size(image, path, max_pixels=MAX_PIXELS, what="flat image")
            if image.format == "PNG" and png_header(path)[0] == 16:
                return _decode_deep_png(path)
            return _rgb(image), ()


@contextmanager
def sentences(path: Path, what: str) -> Iterator[None]:
    """Convert any error of a decoder to a CvmError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise CvmError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise CvmError(f"{path} cannot be read as {what}: unknown or damaged format") from None
    except MemoryError:
        raise CvmError(f"{path} cannot be read as {what}: not enough memory") from None
    except Exception as error:  # decoders raise many types
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise CvmError(f"{path} cannot be read as {what}: {error_reason(error)}") from None


def error_reason(error: Exception) -> str:
    """Return the message of a decoder's error in one line."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _decode_tiff(path: Path) -> np.ndarray:
    """Decode a TIFF that `TiffSource` does not read: palette, CMYK, 1 bit and other unusual pixels."""
    with tifffile.TiffFile(path) as tiff:
        check_size(tiff, path, max_pixels=MAX_PIXELS, what="flat image")
        page = largest_series(tiff).keyframe
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return _rgb_of_palette(page.asarray(), page.colormap)
        turned = page.tags.valueof(ExifTags.Base.Orientation, default=1) != 1
        if page.bitspersample > 8 or turned or page.photometric in _PLAIN:
            return rgb_of_samples(_samples_last(page), page.photometric, extra=page.extrasamples)
        index = page.index
    with open_unlimited(path) as image:
        if isinstance(index, int):  # not for a SubIFD, which is never the largest
            image.seek(index)
        return _rgb(image)


_PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)


def _rgb_of_palette(indices: np.ndarray, palette: np.ndarray | None) -> np.ndarray:
    """Look up indices in a TIFF's (3, N) palette: (H, W, 3) uint8; the palette has 16 bits, from some programs 8."""
    if palette is None or indices.ndim != 2 or indices.dtype.kind != "u":
        raise CvmError("its palette cannot be read; save it as RGB with 8 bits per channel")
    colours = palette >> 8 if palette.max() > 255 else palette
    return np.ascontiguousarray(np.moveaxis(colours.astype(np.uint8)[:, indices], 0, -1))


def _decode_deep_png(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a 16-bit PNG, of whose colours Pillow would keep only the upper eight bits."""
    pixels, kind = decode_png(path), png_header(path)[1]
    alpha = pixels[..., -1:] if kind & 4 else None
    colours = pixels if alpha is None else pixels[..., :-1]
    bits, warnings = brightest_bits(path, brightness(colours))
    grey = 3 if colours.ndim == 2 or colours.shape[2] == 1 else 1
    colours = np.repeat(to_bytes(colours.reshape(*pixels.shape[:2], -1), bits), grey, axis=2)
    return (colours if alpha is None else over_white(colours, to_bytes(alpha, 16))), warnings


def _rgb(image: Image.Image) -> np.ndarray:
    """Convert an image opened with Pillow to (H, W, 3) uint8."""
    if image.mode == "F":
        raise CvmError("its pixels are floating point numbers; save it with 8 bits per channel")
    if image.mode.startswith("I"):
        raise CvmError(f"its pixels are {np.array(image).dtype}; save it with 8 bits per channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def colour_samples(photometric: int, samples: int, extra: Sequence[int]) -> int:
    """Return how many of a page's samples are colours; the others are extra samples, as declared by the file.

    Raises:
        UndeclaredChannelsError: grey with further samples that are not declared as alpha, or too many samples.
    """
    colours = 1 if photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE) else 3
    if samples > 4:
        raise UndeclaredChannelsError(f"it has {samples} channels; save it as RGB")
    if samples > colours == 1 and not (samples == 2 and extra and int(extra[0]) in SINGLE_ALPHA):
        raise UndeclaredChannelsError(
            f"it has {samples} channels, and the file does not say that they are red, green and blue; save it as RGB"
        )
    return colours


def rgb_of_samples(pixels: np.ndarray, photometric: int, *, extra: Sequence[int] = (), bits: int = 16) -> np.ndarray:
    """Convert decoded TIFF samples, (H, W) or (H, W, samples), to (H, W, 3) uint8 RGB.

    Alpha is composited on white, premultiplied colours accordingly; extra samples of undeclared meaning are left out.

    Args:
        photometric: the page's photometric interpretation.
        extra: types of its extra samples: 0 unspecified, 1 premultiplied alpha, 2 alpha.
        bits: number of bits that 16-bit values use.

    Raises:
        CvmError: pixels of another type.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16) or photometric == tifffile.PHOTOMETRIC.SEPARATED:
        kind = "CMYK" if pixels.dtype in (np.uint8, np.uint16) else pixels.dtype
        raise CvmError(f"its pixels are {kind}; save it as RGB with 8 bits per channel")
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    colours = colour_samples(photometric, pixels.shape[2], extra)
    rgb = to_bytes(pixels[..., :colours], bits)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        rgb = ~rgb
    rgb = np.repeat(rgb, 3, axis=2) if colours == 1 else rgb
    alphas = [index for index, kind in enumerate(extra[: pixels.shape[2] - colours]) if int(kind) in SINGLE_ALPHA]
    if not alphas:
        return np.ascontiguousarray(rgb)
    alpha = to_bytes(pixels[..., colours + alphas[0], None], bits)
    return over_white(rgb, alpha, multiplied=int(extra[alphas[0]]) == 1)


def over_white(rgb: np.ndarray, alpha: np.ndarray, *, multiplied: bool = False) -> np.ndarray:
    """Composite colours with (H, W, 1) uint8 opacity on white, (H, W, 3) uint8.

    Args:
        multiplied: the colours are premultiplied by the opacity.
    """
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgb)
    opacity = alpha.astype(np.uint32)
    own = rgb.astype(np.uint32) * (255 if multiplied else opacity)
    return np.minimum((own + 255 * (255 - opacity) + 127) // 255, 255).astype(np.uint8)


def _samples_last(page: Any) -> np.ndarray:
    """Decode the page's pixels, (H, W) or (H, W, samples)."""
    pixels = page.asarray()
    return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
