"""Read and write text, JSON and tables: every failure is a one-sentence error, files are replaced atomically."""

import csv
import io
import itertools
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cvm_monai.errors import CvmError
from cvm_monai.files.atomic import replacing, write_bytes
from cvm_monai.files.packed import opened_unpacked

TOO_LONG = "not valid JSON (a whole number of thousands of digits)"
"""Error text for an integer of so many digits that Python refuses to convert it."""

DELIMITERS = (",", ";", "\t")

SHOWN = 60
"""Maximal number of characters of a quoted value."""


def shown(value: object) -> str:
    """Format a value for an error message, truncated where it is long."""
    return shorten(repr(value))


def shorten(text: str) -> str:
    """Truncate a text that is too long for an error message."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark, unpacked if it is gzipped or in a ZIP archive.

    Raises:
        CvmError: a missing or unreadable file, or bytes that are not UTF-8 text.
    """
    with opened(path) as file:
        return file.read()


@contextmanager
def opened(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open the text of `read_text` to be read in pieces; failures while reading become CvmError.

    Raises:
        CvmError: the same as ``read_text``.
    """
    with opened_bytes(path) as file:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


@contextmanager
def opened_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, unpacked if it is gzipped or alone in a ZIP archive; failures become CvmError.

    Raises:
        CvmError: the same as ``read_text``.
    """
    try:
        if path.is_dir():
            raise CvmError(f"{path} cannot be read: it is a folder; give a file")
        with opened_unpacked(path) as file:
            yield file
    except FileNotFoundError:
        raise CvmError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise CvmError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise CvmError(f"{path} cannot be read: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CvmError: the same as ``read_text``, or malformed JSON with its line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CvmError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from None
    except RecursionError:
        raise CvmError(f"{path}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise CvmError(str(error) if str(error).startswith(str(path)) else f"{path}: {TOO_LONG}") from None


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the object in a JSON file of our own; None where it is missing, unreadable or not an object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_table(path: Path, *, required: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows of a CSV file with a header, each with its line number; values and names are stripped.

    The delimiter is the comma, semicolon or tab that gives the required columns, else the most frequent. Empty lines
    and nameless columns are skipped. Unicode is normalised.

    Raises:
        CvmError: an empty file, a missing or repeated column, or a row of another length.
    """
    text = unicodedata.normalize("NFC", read_text(path))
    required = tuple(required)
    delimiter = _delimiter(text.partition("\n")[0], required)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, required)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise CvmError(f"{path}, line {reader.line_num}: {len(row)} values for {len(header)} columns")
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, row, strict=True) if name}
    except csv.Error as error:
        raise CvmError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None


def read_number(text: str, *, where: str, name: str) -> float:
    """Parse a finite number of a table's cell; a decimal comma is accepted.

    Raises:
        CvmError: not a finite number; ``where`` is its place, for the message.
    """
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CvmError(f"{where}: {name} must be a number, got {shown(text)}")
    return number


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically by this text, as UTF-8."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Replace a file atomically by a table's rows, including the header, as CSV with commas."""
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Replace a file atomically by JSON, indented by 2 and flushed to the disk; values unknown to JSON become text.

    Raises:
        OSError: disk full, or no permission; it names `path`, which is unchanged.
    """
    write_bytes(path, (json.dumps(content, indent=2, default=str) + "\n").encode())


def update_json(path: Path, **changes: Any) -> None:
    """Change some keys of a JSON object on disk."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def first_difference(before: Any, now: Any) -> str:
    """Describe the first difference of two JSON values, as `train#size was 3 and is 4`; empty where there is none.

    Both are compared as JSON holds them: a tuple equals a list. A missing entry equals null and an empty object.
    Entries of an object and of a list are named by `#` and their key or number.

    Args:
        before: the former value, such as an object of settings.
        now: the requested one; the order of its entries is that of the search.
    """
    return _difference(*(json.loads(json.dumps(value, default=str)) for value in (before, now)))


def _difference(before: Any, now: Any, name: str = "") -> str:
    if all(value is None or isinstance(value, dict) for value in (before, now)):
        old, new = before or {}, now or {}
        entries = [(key, old.get(key), new.get(key)) for key in [*new, *(key for key in old if key not in new)]]
    elif isinstance(before, list) and isinstance(now, list):
        entries = [(str(number), *pair) for number, pair in enumerate(itertools.zip_longest(before, now))]
    elif before == now:
        return ""
    elif name.endswith("_sha256"):
        return f"{name.removesuffix('_sha256')} has other content ({name})"
    else:
        former, present = ("nothing" if value is None else shorten(json.dumps(value)) for value in (before, now))
        return f"{shorten(name)} was {former} and is {present}"
    found = (_difference(one, other, f"{name}#{key}" if name else key) for key, one, other in entries)
    return next(filter(None, found), "")


def refuse_difference(before: Any, now: Any, *, what: str, advice: str) -> None:
    """Refuse to go on with what was made with other settings; nothing happens where they are equal.

    Args:
        before, now: as of `first_difference`.
        what: what was made otherwise, as `the map in FOLDER is of other settings`.
        advice: what to do.

    Raises:
        CvmError: the settings differ; the message names the first that does.
    """
    if difference := first_difference(before, now):
        raise CvmError(f"{what}: {difference}; {advice}")


def _delimiter(names: str, required: tuple[str, ...]) -> str:
    """Find the delimiter of a header."""
    for mark in DELIMITERS:
        if mark in names and set(required) <= {name.strip().strip('"') for name in names.split(mark)}:
            return mark
    return max(DELIMITERS, key=names.count)


def _check_header(path: Path, header: list[str], required: Iterable[str]) -> None:
    """Refuse a header that lacks a column or names one twice."""
    missing = [name for name in required if name not in header]
    if missing:
        found = ", ".join(header).replace("\t", "\\t") or "nothing"
        raise CvmError(f"{path}, line 1: the column {missing[0]!r} is missing; found {found}")
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise CvmError(f"{path}, line 1: the column {repeated[0]!r} appears twice")
