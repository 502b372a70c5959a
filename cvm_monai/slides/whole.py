"""Decode whole pictures, with the same readers as regions of slides."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.slides import image
from cvm_monai.slides.image import IMAGE_SUFFIXES, sentences
from cvm_monai.slides.mpp import LIMITS, decide_mpp
from cvm_monai.slides.opening import SLIDE_SUFFIXES, open_source
from cvm_monai.slides.source import FlatSource, Source


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture and the metadata of its file.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        mpp: the file's um/px if plausible, see `believed`.
        unbelieved: the file's um/px if implausible for a microscope.
        warnings: messages for the user about how the file was read.
    """

    pixels: np.ndarray
    mpp: float | None
    unbelieved: float | None
    warnings: tuple[str, ...]


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image as (H, W, 3) uint8 RGB, as `open_image` reads it.

    Grey becomes RGB, transparency is composited on white, of 16-bit values the upper eight of the used bits are kept.

    Raises:
        CvmError: a file that is missing, unreadable or truncated, or pixels of another type (float, many channels).

    Example:
        >>> import cvm_monai as cvm
        >>> image = cvm.read_image("data/phantom/images/case_000.png")
        >>> image.shape, image.dtype.name
        ((64, 64, 3), 'uint8')
    """
    return read_picture(path).pixels


def read_picture(path: str | Path) -> Picture:
    """Decode an image, with its file's um/px and warnings; see `read_image`."""
    path = Path(path)
    with sentences(path, "an image"):
        source = _source(path)
        try:
            height, width = source.sizes[0]
            pixels = source.read(0, 0, 0, width, height)
            said, warnings = decide_mpp(path, source.mpp, None)
            mpp = believed(said.value)
            unbelieved = said.value if mpp is None else None
            return Picture(pixels, mpp, unbelieved, (*source.warnings, *warnings))
        finally:
            source.close()


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (height, width) from the file's header, without decoding.

    Raises:
        CvmError: a file that is missing or not an image.
    """
    return image_header(path)[0]


def image_header(path: str | Path) -> tuple[tuple[int, int], float | None]:
    """Read (height, width) and the file's um/px, checked by `believed`, without decoding.

    Raises:
        CvmError: a file that is missing or not an image.
    """
    path = Path(path)
    with sentences(path, "an image"):
        source = _source(path)
        try:
            return source.sizes[0], believed(decide_mpp(path, source.mpp, None)[0].value)
        finally:
            source.close()


def believed(mpp: float | None) -> float | None:
    """Return a um/px if it is plausible for a microscope, else None, such as for 352.8 (72 dpi)."""
    return mpp if mpp is not None and LIMITS[0] <= mpp <= LIMITS[1] else None


def _source(path: Path) -> Source:
    """Open the reader of a file, and check that the picture is small enough to hold."""
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)
    try:
        source = open_source(path) if known and path.stat().st_size else FlatSource(path)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path} cannot be opened as an image: ")
        raise CvmError(reason) from None
    height, width = source.sizes[0]
    if height * width > image.MAX_PIXELS:
        source.close()
        raise CvmError(f"{width} x {height} px are too many for a flat image; cut it into tiles")
    return source
