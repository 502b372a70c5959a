"""Group DICOM files into slides: the files of one series are one slide, and any of them opens it."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

DICOM_SUFFIX = ".dcm"

_SERIES, _SYNTAX = (0x0020, 0x000E), (0x0002, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV")
_UNDEFINED = 0xFFFFFFFF
_IMPLICIT, _UNREADABLE = "1.2.840.10008.1.2", ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
"""Transfer syntaxes: implicit value representation; deflated or big-endian, which OpenSlide does not read."""


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
