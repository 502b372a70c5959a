"""Find the slides to predict, and check before the first tile that they can be predicted."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvm_monai.errors import CvmError
from cvm_monai.inference.whole_slide.grid import Grid, make_grid
from cvm_monai.shards import in_shard
from cvm_monai.slides import (
    IMAGE_SUFFIXES,
    SLIDE_SUFFIXES,
    Origin,
    SlideImage,
    check_mpp,
    corner,
    open_image,
    require_mpp,
    warnings_of,
)
from cvm_monai.slides.files import ImageFile, Names, images_in, one_of_each_series, visible

SUFFIXES = tuple(dict.fromkeys((*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)))
MASK_SUFFIXES = (".geojson", ".geojson.gz", ".json", ".geojson.zip", ".zip", ".png", ".tif", ".tiff")

SAMPLES = 16
"""Number of 1 MiB blocks of a file that `fingerprint` hashes; a file of at most so many MiB is hashed as a whole."""


@dataclass(frozen=True)
class Slide:
    """A slide that can be opened, its scale and its tiles.

    Attributes:
        path: of its file.
        name: of the folder of its results.
        shape: (height, width) of level 0.
        mpp: um/px of level 0.
        mpp_source: `file` or `user`.
        warnings: about the um/px and the coordinates.
        grid: of its tiles.
        corner: (x, y) in level-0 pixels that coordinates in files count from.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    mpp: float
    mpp_source: str
    warnings: tuple[str, ...]
    grid: Grid
    corner: tuple[int, int] = (0, 0)


def find_slides(names: Iterable[str | Path]) -> tuple[ImageFile, ...]:
    """Find slides: the named files in their order, and those of folders, their `images/` or sub-folders, by name.

    The files of one DICOM series are one slide. A slide in a sub-folder is named by its path, see `ImageFile`.

    Raises:
        CvmError: no such file or folder, a folder without slides, no slide at all, or two slides of one name.
    """
    named: list[Path] = []
    found: list[ImageFile] = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise CvmError(f"{path} does not exist: give a slide, or a folder of slides")
        inside = _inside(path) if path.is_dir() else ()
        if path.is_dir() and not inside:
            raise CvmError(f"there is no image or slide in {path}; supported are {', '.join(SUFFIXES)}")
        named += [] if path.is_dir() else [path]
        found += inside
    singles = [ImageFile(path, path.stem, files) for path, files in one_of_each_series(named).items()]
    if not singles and not found:
        raise CvmError("give at least one slide, or a folder of slides")
    _check_names([*singles, *found])
    return (*singles, *found)


def shard_of_slides(slides: Sequence[ImageFile], shard: str | None) -> tuple[ImageFile, ...]:
    """Return the slides of one array job: shard `3/16` has the 3rd, 19th, 35th ... in the order of their names.

    Every slide is in exactly one shard, and which one depends on the names alone, as long as all jobs are given the
    same slides. None: all of them.

    Raises:
        CvmError: not K/N with 1 <= K <= N.
    """
    return tuple(slides) if shard is None else in_shard(sorted(slides, key=lambda slide: slide.name), shard)


def look_at(
    path: Path,
    *,
    model_mpp: float | None,
    model_scale: float,
    mpp: float | None,
    force_mpp: bool,
    window: int,
    overlap: float,
    mpp_flag: str = "--mpp",
    origin: Origin = "level0",
    name: str = "",
) -> Slide:
    """Open a slide, decide how it is scaled, and close it.

    A model trained at some um/px gets the slide at that um/px. One trained at a `scale` of images with unknown um/px
    gets level 0 at that scale.

    Args:
        path: of the slide.
        model_mpp: um/px of the training; None: unknown.
        model_scale: working size / file size of the training.
        mpp: um/px of level 0, given by the user.
        force_mpp: accept a um/px that no microscope has, or one more than twice the model's.
        window, overlap: see `make_grid`.
        mpp_flag: the option that sets `mpp`, for error messages.
        origin: what coordinates in files count from.
        name: of the folder of its results; empty: the file's name without the suffix.

    Raises:
        CvmError: a slide that cannot be opened, without um/px, or with one that is refused.
    """
    with open_image(path, mpp=mpp) as image:
        own = require_mpp(image, mpp_flag)
        try:
            finer = model_mpp is not None and own <= model_mpp  # averaging finer pixels loses nothing
            check_mpp(own, None if finer else model_mpp, force=force_mpp, flag=mpp_flag)
        except ValueError as error:
            raise CvmError(f"{path}: {error}") from None
        scale = 1 / model_scale if model_mpp is None else model_mpp / own
        grid = make_grid(image.shape, scale=scale, window=window, overlap=overlap)
        warnings = warnings_of(image, origin)
        facts = (image.shape, own, image.mpp.source, warnings, grid, corner(image, origin))
        return Slide(path, name or path.stem, *facts)


def open_slide(slide: Slide) -> SlideImage:
    """Open the slide again, with the facts found by `look_at`."""
    return open_image(slide.path, mpp=slide.mpp if slide.mpp_source == "user" else None)


def mask_file(given: Path, slide: Path, name: str = "") -> Path:
    """Find the user's mask of tissue: a file, or the one with the slide's name in a folder of masks.

    Raises:
        CvmError: there is none.
    """
    if not given.is_dir():
        if not given.is_file():
            raise CvmError(f"there is no mask of tissue at {given}: give otsu, none, a file or a folder as --tissue")
        return given
    names, stems = Names({name or slide.stem: slide}), dict.fromkeys((name or slide.stem, slide.stem))
    own = [given / f"{stem}{suffix}" for stem in stems for suffix in MASK_SUFFIXES]
    files = sorted(given.iterdir())
    for suffix in MASK_SUFFIXES:
        own += [path for path in files if path.name.endswith(suffix) and names.find(path.name.removesuffix(suffix))]
    for path in own:
        if path.is_file():
            return path
    raise CvmError(f"{given} has no mask of tissue for {slide.name}, such as {slide.stem}.geojson")


def fingerprint(path: Path) -> str:
    """Hash (SHA-256) a file's size and `SAMPLES` blocks of 1 MiB: the first, the last and evenly spaced ones between.

    It is cheap for any slide, and different for another image of the same name and size. For MRXS the file that names
    its parts is hashed too.
    """
    total, block = hashlib.sha256(), 2**20
    index = path.with_suffix("") / "Slidedat.ini"
    for part in (path, index) if index.is_file() else (path,):
        size = part.stat().st_size
        total.update(f"{size};".encode())
        step = max(block, (size - block) / (SAMPLES - 1))
        with part.open("rb") as stream:
            for number in range(SAMPLES):
                stream.seek(round(number * step))
                total.update(stream.read(block))
    return total.hexdigest()


def _inside(folder: Path) -> tuple[ImageFile, ...]:
    """List the images and slides of the folder, else of its `images/`, else of its sub-folders."""
    places = (folder / "images", folder) if not visible(folder, SUFFIXES) else (folder,)
    return next((found for place in places if (found := images_in(place, SUFFIXES))), ())


def _check_names(slides: Sequence[ImageFile]) -> None:
    """Refuse two slides of the same name, by which results are named."""
    seen: dict[str, ImageFile] = {}
    for slide in slides:
        other = seen.setdefault(slide.name, slide)
        if other is not slide:
            raise CvmError(
                f"{other.path} and {slide.path} would both be written into {slide.name}: rename one, or give one "
                "of them another --output"
            )
