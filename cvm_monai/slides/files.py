"""Find the images of a folder, also in sub-folders, and resolve their names; a DICOM series is one image.

Annotations, masks and tables name images with or without their suffix.
"""

import struct
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from cvm_monai.slides.image import IMAGE_SUFFIXES
from cvm_monai.slides.opening import SLIDE_SUFFIXES

JOINED = "__"
"""Separator between the folders of a path in a name."""

RESULTS = "run.json"
"""A folder with this file holds results, not images."""


DICOM_SUFFIX = ".dcm"

_SERIES, _SYNTAX = (0x0020, 0x000E), (0x0002, 0x0010)

_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)

_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV")

_UNDEFINED = 0xFFFFFFFF

_IMPLICIT, _UNREADABLE = "1.2.840.10008.1.2", ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
"""Transfer syntaxes: implicit value representation; deflated or big-endian, which OpenSlide does not read."""

OME = ".ome"
"""First part of the double suffix of OME-TIFF; QuPath drops both parts in the names of exports."""


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


def one_of_each_series(paths: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Return one file for each slide, in order, with all files of the slide; only DICOM slides have several.

    A series is represented by its first file by name. A file without a series is a slide of its own.
    """
    found: dict[Path, list[Path]] = {}
    first: dict[str, Path] = {}
    ordered = list(paths)
    for path in sorted(ordered):
        uid = series_uid(path) if path.suffix.lower() == DICOM_SUFFIX else None
        found.setdefault(path if uid is None else first.setdefault(uid, path), []).append(path)
    return {path: tuple(found[path]) for path in dict.fromkeys(ordered) if path in found}


def series_uid(path: Path) -> str | None:
    """Read the SeriesInstanceUID of a DICOM file; None if it is not DICOM, or is damaged before that element."""
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
            return _find_series(file)
    except (OSError, EOFError, struct.error, RecursionError):
        return None


def _find_series(file: BinaryIO) -> str | None:
    """Search the elements, which are in ascending order, for the series."""
    implicit = False
    while True:
        tag = _tag(file)
        if tag > _SERIES:
            return None
        bare = implicit and tag[0] != 2  # the file meta group always has explicit value representations
        length = _length(file, bare)
        if tag == _SERIES:
            return _text(file, length) or None
        if tag == _SYNTAX:
            syntax = _text(file, length)
            if syntax in _UNREADABLE:
                return None
            implicit = syntax == _IMPLICIT
            continue
        _skip(file, length, bare)


def _tag(file: BinaryIO) -> tuple[int, int]:
    group, element = struct.unpack("<HH", file.read(4))
    return group, element


def _length(file: BinaryIO, implicit: bool) -> int:
    """Read the length in bytes of the value that follows."""
    if implicit:
        return int(struct.unpack("<I", file.read(4))[0])
    long = file.read(2) in _LONG
    return int(struct.unpack("<2xI" if long else "<H", file.read(6 if long else 2))[0])


def _text(file: BinaryIO, length: int) -> str:
    return file.read(min(length, 64)).decode("ascii", "replace").strip("\0 ")


def _skip(file: BinaryIO, length: int, implicit: bool) -> None:
    """Skip a value; one of undefined length ends at its delimiter."""
    if length != _UNDEFINED:
        file.seek(length, 1)
        return
    while (tag := _tag(file)) != _SEQUENCE_END:
        size = struct.unpack("<I", file.read(4))[0]
        if tag == _ITEM and size == _UNDEFINED:
            _skip_item(file, implicit)
        else:
            file.seek(size, 1)
    file.read(4)


def _skip_item(file: BinaryIO, implicit: bool) -> None:
    """Skip an item of undefined length."""
    while _tag(file) != _ITEM_END:
        _skip(file, _length(file, implicit), implicit)
    file.read(4)


def normal(name: str) -> str:
    """Normalise a name to one Unicode normal form: operating systems write accents as one character or as two."""
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """Remove an image's suffix, also OME-TIFF's double one, from a name, and normalise it."""
    name = normal(name)
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in SLIDE_SUFFIXES:
        name = name[: -len(suffix)]
    return name[: -len(OME)] if name.lower().endswith(OME) else name


class Names:
    """Looks up the ids of images by their possible names.

    ``s1.ome.tif`` with the id ``s1.ome`` is found by ``s1.ome``, ``s1.ome.tif`` and ``s1``. An image with exactly that
    id, file name or other name takes precedence; an ambiguous name finds none.

    Args:
        images: file of each id.
        others: the id of further names, such as paths, see ``slides.files.other_names``.
    """

    def __init__(self, images: Mapping[str, Path], others: Mapping[str, str] = MappingProxyType({})) -> None:
        self._ids = {normal(image_id): image_id for image_id in images}
        further = [(text, self._ids[normal(image_id)]) for text, image_id in others.items()]
        files = [(file.name, image_id) for image_id, file in images.items()]
        own = [(image_id, image_id) for image_id in images]
        self._exact = _unique((normal(text), image_id) for text, image_id in (*files, *further))
        self._bare = _unique((bare(text), image_id) for text, image_id in (*files, *further, *own))

    def find(self, name: str) -> str | None:
        """Return the id of the image with a name, or None."""
        name = normal(name)
        return self._ids.get(name) or self._exact.get(name) or self._bare.get(bare(name))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map names to ids, without ambiguous names."""
    meant: dict[str, set[str]] = {}
    for name, image_id in pairs:
        meant.setdefault(name, set()).add(image_id)
    return {name: next(iter(ids)) for name, ids in meant.items() if len(ids) == 1}
