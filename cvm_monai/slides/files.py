"""Find the images of a folder, also in sub-folders, and name them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cvm_monai.slides.dicom import one_of_each_series

JOINED = "__"
"""Separator between the folders of a path in a name."""

RESULTS = "run.json"
"""A folder with this file holds results, not images."""


@dataclass(frozen=True)
class ImageFile:
    """An image or a slide of a folder.

    Attributes:
        path: its file; the first one of a DICOM series.
        name: the file's name without the suffix; in a sub-folder the path, joined by two underscores; for a series
            alone in a sub-folder that folder's name.
        files: all of its files.
    """

    path: Path
    name: str
    files: tuple[Path, ...]


def images_in(folder: Path, suffixes: Collection[str]) -> tuple[ImageFile, ...]:
    """List the images of a folder, or, if it has none itself, of its sub-folders; by name, hidden ones left out.

    The files of one DICOM series are one image.
    """
    files = visible(folder, suffixes) or below(folder, suffixes)
    series = one_of_each_series(files)
    inside = Counter(path.parent for path in series)
    return tuple(ImageFile(path, _name(path, folder, inside), every) for path, every in series.items())


def visible(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """List the files of a folder with given suffixes, by name, without hidden ones; empty if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if not file.name.startswith(".") and (suffixes is None or file.suffix.lower() in suffixes) and file.is_file()
    )


def below(folder: Path, suffixes: Collection[str] | None = None, *, seen: frozenset[Path] = frozenset()) -> list[Path]:
    """List the files of all sub-folders with given suffixes; hidden folders and folders of results are left out.

    Args:
        seen: resolved folders that are not entered again.
    """
    seen = seen | {folder.resolve()}
    found: list[Path] = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        entered = place.is_dir() and not place.name.startswith(".") and place.resolve() not in seen
        if entered and not (place / RESULTS).is_file():
            found += [*visible(place, suffixes), *below(place, suffixes, seen=seen)]
    return found


def other_names(images: Iterable[ImageFile], folder: Path) -> Mapping[str, str]:
    """Map other names (file name, stem or path) to the image's name, where they are unambiguous."""
    images = list(images)
    own = {image.name for image in images}
    meant: dict[str, set[str]] = {}
    for image in images:
        for file in image.files:
            inner = file.relative_to(folder)
            texts = {file.name, file.stem, inner.as_posix(), inner.with_suffix("").as_posix(), joined(inner)}
            if JOINED.join(inner.parent.parts) == image.name:
                texts |= {inner.parent.name, inner.parent.as_posix()}
            for text in texts - own:
                meant.setdefault(text, set()).add(image.name)
    return {text: next(iter(names)) for text, names in meant.items() if len(names) == 1}


def joined(inner: Path) -> str:
    """Join a relative path, without its suffix, to one name."""
    return JOINED.join(inner.with_suffix("").parts)


def _name(path: Path, folder: Path, inside: Mapping[Path, int]) -> str:
    inner = path.relative_to(folder)
    if path.suffix.lower() == ".dcm" and path.parent != folder and inside[path.parent] == 1:
        return JOINED.join(inner.parent.parts)
    return joined(inner)
