"""Which files of a folder are images, also in sub-folders, and what each is called."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cvm_monai.slides.dicom import one_of_each_series

JOINED = "__"
"""Between the folders of a path in a name."""

RESULTS = "run.json"
"""A folder with this file holds results, not images."""


@dataclass(frozen=True)
class ImageFile:
    """An image or a slide of a folder.

    Attributes:
        path: of its file; of a DICOM series the first.
        name: its file's without the suffix; of one in a sub-folder the path, joined by two underscores; of a series
            that has a sub-folder to itself that folder's.
        files: all of its files.
    """

    path: Path
    name: str
    files: tuple[Path, ...]


def images_in(folder: Path, suffixes: Collection[str]) -> tuple[ImageFile, ...]:
    """The images of a folder, or, where it holds none itself, of its sub-folders; by name, hidden ones left out.

    The files of one DICOM series are one image.
    """
    files = visible(folder, suffixes) or below(folder, suffixes)
    series = one_of_each_series(files)
    inside = Counter(path.parent for path in series)
    return tuple(ImageFile(path, _name(path, folder, inside), every) for path, every in series.items())


def visible(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """The files of a folder by name, of some suffixes; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if not file.name.startswith(".") and (suffixes is None or file.suffix.lower() in suffixes) and file.is_file()
    )


def below(folder: Path, suffixes: Collection[str] | None = None, *, seen: frozenset[Path] = frozenset()) -> list[Path]:
    """The files of all sub-folders, of some suffixes; hidden folders and those of results are left out.

    Args:
        seen: folders, resolved, that are not entered again.
    """
    seen = seen | {folder.resolve()}
    found: list[Path] = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        entered = place.is_dir() and not place.name.startswith(".") and place.resolve() not in seen
        if entered and not (place / RESULTS).is_file():
            found += [*visible(place, suffixes), *below(place, suffixes, seen=seen)]
    return found


def other_names(images: Iterable[ImageFile], folder: Path) -> Mapping[str, str]:
    """The name of the image that another name means: a file's name, stem or path, where it means one image alone."""
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
    """A relative path as one name, without its suffix."""
    return JOINED.join(inner.with_suffix("").parts)


def _name(path: Path, folder: Path, inside: Mapping[Path, int]) -> str:
    inner = path.relative_to(folder)
    if path.suffix.lower() == ".dcm" and path.parent != folder and inside[path.parent] == 1:
        return JOINED.join(inner.parent.parts)
    return joined(inner)
