"""Replace a file or some entries of a folder atomically: complete, or not at all.

A file is first written into a hidden folder beside its target, `.NAME.part-XXXXXXXX/NAME` with eight random hexadecimal
digits, and renamed when it is complete. It has the target's own name and suffix, so that writers that choose a format
by suffix work, and no `*.SUFFIX` of another reader matches it. An error removes the folder; `remove_leftovers` removes
what a killed process left.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, or a quota or limit that is reached."""

LONGEST = 100
"""Bytes of the target's name in the hidden folder's name: file systems allow 255 in all."""

TEMPORARY = re.compile(r"\..*\.part-[0-9a-f]{8}", re.DOTALL)
"""Matches the names of hidden folders made by a replacement."""

FORMER = re.compile(r"\.[0-9]+|\.removed")
"""Matches leftovers of earlier versions: `.NAME` with a process id, or with the mark of a folder to be removed."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to, and rename it to `path` when the block ends; an error leaves `path` unchanged.

    The folder of `path` is created. A link at `path` is replaced, not followed. Processes and threads may write the
    same `path` at once: the last complete one stays.

    Args:
        durable: flush the file to the disk before it is renamed, so that it is whole after a power failure too.

    Raises:
        OSError: disk full, or no permission; it names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(path.parent, path.name) as folder:
        aside = folder / path.name
        try:
            yield aside
            if durable:
                _flush(aside)
            os.replace(aside, path)
        except OSError as error:
            if error.filename in (aside, str(aside), os.fsencode(aside)):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise


@contextmanager
def replacing_entries(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder for the entries `names` of `folder`, and move all of them in when the block ends.

    Earlier entries of these names are moved away first, in reverse order, and moved back if a move fails.

    Args:
        folder: must exist; its other entries stay.
        names: files or folders, in the order in which they are moved in.

    Raises:
        OSError: disk full, or no permission.
    """
    with _hidden_folder(folder, names[-1]) as aside:
        new, old = aside / "new", aside / "old"
        new.mkdir()
        old.mkdir()
        yield new
        moved: list[tuple[Path, Path]] = []
        try:
            for name in reversed(names):
                if (folder / name).exists():
                    (folder / name).rename(old / name)
                    moved.append((old / name, folder / name))
            for name in names:
                (new / name).rename(folder / name)
                moved.append((folder / name, new / name))
        except BaseException:  # interruptions too: the earlier entries are in the folder that is removed
            for now, before in reversed(moved):
                now.rename(before)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically by these bytes, flushed to the disk.

    Raises:
        OSError: disk full, or no permission; it names `path`, which is unchanged.
    """
    try:
        with replacing(path, durable=True) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def remove_folder(folder: Path) -> None:
    """Remove a folder with its contents atomically, by renaming it first; a missing folder is ignored."""
    if folder.exists():
        with _hidden_folder(folder.parent, folder.name) as aside:
            folder.rename(aside / folder.name)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left while they wrote `path`; no process may be writing it now."""
    begin = f".{path.name}"
    for entry in _entries(path.parent):
        former = entry.name.startswith(begin) and FORMER.fullmatch(entry.name[len(begin) :])
        if former or (is_leftover(entry) and entry.name.rpartition(".part-")[0] == f".{_cut(path.name)}"):
            _remove(entry)


def remove_all_leftovers(folder: Path) -> None:
    """Remove what killed processes left while they wrote into a folder; no process may be writing there now."""
    for entry in _entries(folder):
        if is_leftover(entry):
            _remove(entry)


def is_leftover(path: Path) -> bool:
    """Whether a name is that of an incomplete replacement."""
    return TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def _hidden_folder(parent: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder, removed at the end of the block with its contents."""
    folder = parent / f".{_cut(name)}.part-{os.urandom(4).hex()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(parent / name)) from None
    try:
        yield folder
    finally:
        _remove(folder)


def _cut(name: str) -> str:
    """Truncate a name that is too long."""
    return os.fsencode(name)[:LONGEST].decode("utf-8", "ignore")


def _flush(file: Path) -> None:
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(entry: Path) -> None:
    """Remove a file, or a folder with its contents."""
    try:
        entry.rmdir()  # a completed replacement leaves an empty folder: try that first
    except NotADirectoryError:
        with suppress(OSError):
            entry.unlink()
    except OSError:
        shutil.rmtree(entry, ignore_errors=True)
