"""One door to every image and slide; the file's kind chooses who reads it."""

from pathlib import Path

from cvm_monai.annotations.stored import is_tiff
from cvm_monai.errors import CvmError
from cvm_monai.slides.image import IMAGE_SUFFIXES, UndeclaredChannelsError, error_reason
from cvm_monai.slides.slide import SlideImage
from cvm_monai.slides.source import FlatSource, Source

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm")

SLIDE_SUFFIXES = (*TIFF_SUFFIXES, *OPENSLIDE_SUFFIXES)
"""Suffixes of files that may hold a pyramid; flat TIFFs share theirs with `IMAGE_SUFFIXES`."""


def open_image(path: str | Path, *, mpp: float | None = None) -> SlideImage:
    """Open an image or a slide; close it, or use it in a ``with`` statement.

    PNG, JPEG, BMP; TIFF that is flat, tiled, pyramidal or OME; SVS, NDPI, MRXS, SCN, CZI, DICOM (one of its files) and
    what else OpenSlide reads. The file is asked for its um/px, except PNG, JPEG and BMP, whose dpi are of screens.

    Args:
        mpp: um/px of level 0 as the user says; it wins over the file's, and ``.warnings`` says so where they differ.

    Raises:
        CvmError: no such file, a folder, an empty file, an unknown suffix, a file that cannot be read, a flat image
            that is too large to hold (over 2^30 px), or a ``mpp`` that is no positive number.
    """
    path = Path(path)
    _check(path)
    return SlideImage(path, open_source, mpp=mpp)


def reopen(path: Path, mpp: float | None) -> SlideImage:
    """What a pickled image becomes on the other side."""
    return open_image(path, mpp=mpp)


def _check(path: Path) -> None:
    """Refuse what no reader needs to look at."""
    if path.is_dir():
        raise CvmError(f"{path} is a folder, not an image; give one of its files")
    if not path.exists():
        raise CvmError(f"{path} does not exist")
    known = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)))
    if path.suffix.lower() not in known:
        raise CvmError(f"{path}: unknown kind of image; known are {', '.join(known)}")
    if path.stat().st_size == 0:
        raise CvmError(f"{path} is empty (0 bytes); copy it again")


def open_source(path: Path) -> Source:
    """The reader of one file, the same for all commands; a TIFF is one by its content, whatever its name."""
    suffix = path.suffix.lower()
    if suffix in OPENSLIDE_SUFFIXES:
        return _by_openslide(path)
    if suffix in TIFF_SUFFIXES or is_tiff(path):
        return _tiff_source(path)
    return FlatSource(path)


def _by_openslide(path: Path) -> Source:
    """OpenSlide, and tifffile for a TIFF by another suffix that OpenSlide refuses."""
    from cvm_monai.slides.openslide_source import OpenSlideSource
    from cvm_monai.slides.tiff_source import TiffSource

    try:
        return OpenSlideSource(path)
    except Exception as error:  # OpenSlide raises several kinds
        try:
            return TiffSource(path)
        except Exception:  # OpenSlide's reason says more
            raise CvmError(f"{path} cannot be opened as a slide: {error_reason(error)}") from None


def _tiff_source(path: Path) -> Source:
    """OpenSlide for its own kinds; of generic TIFFs whoever sees more; the flat reader for odd pixels."""
    from cvm_monai.slides.openslide_source import OpenSlideSource
    from cvm_monai.slides.tiff_source import TiffSource

    slide: OpenSlideSource | None
    try:
        slide = OpenSlideSource(path)
    except Exception:  # not one of its kinds, or damaged: the next readers say more
        slide = None
    if slide is not None and slide.vendor != "generic-tiff":
        return slide
    try:
        tiff = TiffSource(path)
    except Exception as error:  # tifffile raises many kinds
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
    """A TIFF that Pillow may still read as a whole, decoded at once to know."""
    source = FlatSource(path)
    try:
        source.read(0, 0, 0, 1, 1)
    except ValueError:
        raise CvmError(f"{path} cannot be opened as an image: {error_reason(refused)}") from None
    return source
