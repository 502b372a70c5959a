"""Open images and slides, by regions or decoded as a whole; the file's type decides which reader is used."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.annotations.stored import is_tiff
from cvm_monai.errors import CvmError
from cvm_monai.slides import image
from cvm_monai.slides.image import IMAGE_SUFFIXES, UndeclaredChannelsError, error_reason, sentences
from cvm_monai.slides.resolution import LIMITS, decide_mpp
from cvm_monai.slides.slide import SlideImage
from cvm_monai.slides.source import FlatSource, OpenSlideSource, Source
from cvm_monai.slides.tiff_source import TiffSource

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm")

SLIDE_SUFFIXES = (*TIFF_SUFFIXES, *OPENSLIDE_SUFFIXES)
"""Suffixes of files that may hold a pyramid; those of TIFF are in `IMAGE_SUFFIXES` too."""


def open_image(path: str | Path, *, mpp: float | None = None) -> SlideImage:
    """Open an image or a slide; close it, or use it in a ``with`` statement.

    PNG, JPEG, BMP; TIFF that is flat, tiled, pyramidal or OME; SVS, NDPI, MRXS, SCN, CZI, DICOM (one of its files) and
    what else OpenSlide reads. um/px are read from the file, except from PNG, JPEG and BMP: their dpi are of screens.

    Args:
        mpp: the user's um/px of level 0; overrides the file's, with a warning in ``.warnings`` where they differ.

    Raises:
        CvmError: no such file, a folder, an empty file, an unknown suffix, a file that cannot be read, a flat image
            that is too large to hold (over 2^30 px), or a ``mpp`` that is not a positive number.

    Example:
        >>> import cvm_monai as cvm
        >>> with cvm.open_image("data/phantom/images/case_000.png", mpp=0.5) as slide:
        ...     region = slide.read((8, 8), shape=(16, 16), mpp=1.0)
        >>> region.shape
        (16, 16, 3)
    """
    return SlideImage(Path(path), checked_source, mpp=mpp)


def checked_source(path: Path) -> Source:
    """Open the reader of a file after simple checks, whose messages are better than the readers'."""
    _check(path)
    return open_source(path)


def _check(path: Path) -> None:
    """Refuse missing files, folders, empty files and unknown suffixes before any reader is tried."""
    if path.is_dir():
        raise CvmError(f"{path} is a folder, not an image; give one of its files")
    if not path.exists():
        raise CvmError(f"{path} does not exist")
    known = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)))
    if path.suffix.lower() not in known:
        raise CvmError(f"{path}: unknown kind of image; supported are {', '.join(known)}")
    if path.stat().st_size == 0:
        raise CvmError(f"{path} is empty (0 bytes); copy it again")


def open_source(path: Path) -> Source:
    """Choose the reader of a file, the same for all commands; a TIFF is recognised by its content, not its name."""
    suffix = path.suffix.lower()
    if suffix in OPENSLIDE_SUFFIXES:
        return _by_openslide(path)
    if suffix in TIFF_SUFFIXES or is_tiff(path):
        return _tiff_source(path)
    return FlatSource(path)


def _by_openslide(path: Path) -> Source:
    """Open with OpenSlide, or, if OpenSlide refuses a TIFF with another suffix, with tifffile."""
    try:
        return OpenSlideSource(path)
    except Exception as error:  # OpenSlide raises several types
        try:
            return TiffSource(path)
        except Exception:  # OpenSlide's error is more informative
            raise CvmError(f"{path} cannot be opened as a slide: {error_reason(error)}") from None


def _tiff_source(path: Path) -> Source:
    """Open a vendor's TIFF with OpenSlide, a generic one with the reader that finds more in it, else a flat image."""
    slide: OpenSlideSource | None
    try:
        slide = OpenSlideSource(path)
    except Exception:  # not one of its formats, or damaged: the next readers give a better error
        slide = None
    if slide is not None and slide.vendor != "generic-tiff":
        return slide
    try:
        tiff = TiffSource(path)
    except Exception as error:  # tifffile raises many types
        if isinstance(error, UndeclaredChannelsError):
            raise CvmError(f"{path} cannot be opened as an image: {error}") from None
        return slide or _flat_tiff(path, error)
    alike = slide is not None and tiff.plain and tiff.sizes[0] == slide.sizes[0] and slide.exact
    if slide is None or not alike or len(tiff.sizes) > len(slide.sizes):
        return tiff
    slide.mpp, slide.warnings = tiff.mpp, tiff.warnings  # OpenSlide does not read OME-XML
    tiff.close()
    return slide


def _flat_tiff(path: Path, refused: Exception) -> Source:
    """Open a TIFF as a flat image; it is decoded at once to find out whether Pillow can read it."""
    source = FlatSource(path)
    try:
        source.read(0, 0, 0, 1, 1)
    except ValueError:
        raise CvmError(f"{path} cannot be opened as an image: {error_reason(refused)}") from None
    return source


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
