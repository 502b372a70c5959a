"""Which images a folder holds, checked by their headers before the first one is segmented."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvm_monai.data.datalist import FILE_NAME, read_datalist
from cvm_monai.errors import CvmError
from cvm_monai.slides import IMAGE_SUFFIXES, image_header


def find_images(
    folder: str | Path, *, images: str | Sequence[str] | None = None, image_mpp: float | None = None
) -> list[dict[str, Any]]:
    """Records {case_id, image, mpp} of the images to segment, in the order of their names.

    They are the files named in `images`, else those in the folder's `images/`, else those directly in it, else those of
    its `datalist.json`. The case id is the file's name without its suffix. Each header is read, so that a damaged file
    stops the work before it begins.

    Args:
        folder: of the data.
        images: file names, looked for in `images/`, in the folder, and as paths; they keep their order.
        image_mpp: micrometres per pixel of all images; None takes what `datalist.json` says of each, else what its file
            does (not the dpi of PNG, JPEG and BMP, nor a value that no microscope has).

    Raises:
        CvmError: no such folder or file, no image, an unreadable one, or two images of one name.
    """
    folder = Path(folder)
    listed = _listed(folder)
    if images is not None:
        paths = [_named(name, folder) for name in ([images] if isinstance(images, str) else images)]
    else:
        paths = _inside(folder) or list(listed)
    if not paths:
        raise CvmError(
            f"there is no image in {folder / 'images'} or {folder} ({', '.join(IMAGE_SUFFIXES)}): "
            "give the folder that holds them, or name them by --images"
        )
    _check_names(paths)
    said = [image_header(path)[1] for path in paths]
    known = [own if (mpp := listed.get(path.resolve())) is None else mpp for path, own in zip(paths, said, strict=True)]
    return [
        {"case_id": path.stem, "image": str(path), "mpp": mpp if image_mpp is None else image_mpp}
        for path, mpp in zip(paths, known, strict=True)
    ]


def _inside(folder: Path) -> list[Path]:
    """Images of `images/`, else of the folder itself."""
    if not folder.is_dir():
        raise CvmError(f"{folder} is not a folder: give one with images as dataset_dir")
    for place in (folder / "images", folder):
        found = [path for path in place.iterdir() if _is_image(path)] if place.is_dir() else []
        if found:
            return sorted(found)
    return []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _named(name: str, folder: Path) -> Path:
    """The file that a name means."""
    for path in (folder / "images" / name, folder / name, Path(name)):
        if path.is_file():
            return path
    raise CvmError(f"the image {name} is neither in {folder / 'images'}, nor in {folder}, nor in {Path.cwd()}")


def _listed(folder: Path) -> dict[Path, float | None]:
    """Images and their micrometres per pixel as the folder's data list has them."""
    if not (folder / FILE_NAME).is_file():
        return {}
    return {case.image: case.mpp for case in read_datalist(folder).cases}


def _check_names(paths: Sequence[Path]) -> None:
    """Predictions are named by the stem, so that no two images may share one."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise CvmError(
                f"{other} and {path} would both be written as {path.stem}: rename one, or run them apart by --images"
            )
