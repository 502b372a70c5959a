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

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

MAX_PIXELS = 2**30
"""Largest number of pixels of a flat image; checked before decoding (2^30 pixels are 3 GiB of RGB)."""

SINGLE_ALPHA = (1, 2)
"""TIFF's types of extra samples that are alpha: premultiplied, or not."""


_PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)

DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras and scanners."""

FEW = 0.005
"""Fraction of the values above 0 that may exceed the chosen bit depth."""


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


def to_bytes(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Convert uint8, or uint16 that uses `bits` bits, to uint8: the upper eight of these; larger values become 255."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.minimum(pixels >> max(0, bits - 8), 255).astype(np.uint8)


def brightness(samples: np.ndarray) -> np.ndarray:
    """Compute statistics of 16-bit values, (7,) int64, to be merged over pieces.

    The number of values above 0, of those too large for each depth but the last, and the maximum.
    """
    above = [np.count_nonzero(samples >= 2**depth) for depth in DEPTHS[:-1]]
    return np.array([np.count_nonzero(samples), *above, 0, int(samples.max(initial=0))], dtype=np.int64)


def together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Merge the `brightness` of two pieces."""
    return np.append(one[:-1] + other[:-1], max(one[-1], other[-1]))


def brightest_bits(name: object, found: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """Estimate how many bits 16-bit values use; with a warning that states the choice where it is below 16.

    A few values may be larger (dead camera pixels, a scale bar drawn in); they become white.

    Args:
        name: name of the file, for the warning.
        found: `brightness` of the picture; if fewer than one value in 200 reach a quarter of 65,535, scaling all 16
            bits would give a dark picture.
    """
    above, brightest = found[1:-1], int(found[-1])
    bits = next(depth for depth, count in zip(DEPTHS, above, strict=True) if count <= FEW * found[0])
    if bits == 16 or brightest == 0:
        return 16, ()
    values = f"hold values up to {brightest} only"
    if brightest >= 2**bits:
        values = f"hold values below {2**bits} but for {above[DEPTHS.index(bits)] / found[0]:.2%} of them"
    return bits, (
        f"{name}: its 16 bits {values}, and it does not say how many bits it uses: they are "
        f"taken for {bits} bits, so that {2**bits - 1} is white",
    )


def declared_bits(page: Any, ome: Any = None) -> int | None:
    """Return the number of bits that a TIFF page of 16-bit samples declares, or None where it declares none.

    Args:
        page: tifffile's page.
        ome: its OME-XML Pixels element, if there is one.
    """
    if 8 < page.bitspersample < 16:  # packed: the file stores no more
        return int(page.bitspersample)
    said = page.tags.valueof("MaxSampleValue", default=None)
    try:
        largest = int(np.max(said)) if said is not None else 0
        significant = int(ome.get("SignificantBits", 0)) if ome is not None else 0
    except (TypeError, ValueError):
        return None
    if 8 <= significant <= 16:
        return significant
    return max(8, largest.bit_length()) if 0 < largest < 2**16 else None
