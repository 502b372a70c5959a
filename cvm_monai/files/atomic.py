"""Atomic replacement: a file or some entries of a folder appear whole, or what was there stays.

What is written lies first in a hidden folder beside its target, `.NAME.part-XXXXXXXX/NAME` with eight random digits
(hexadecimal), and is renamed when it is complete. The name and its suffix are the target's own, so that writers that
choose a format by suffix work, and no `*.SUFFIX` of another reader matches it. An error removes the folder; what a
killed process left is removed by `remove_leftovers`.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the file system says where a disk is full, or a quota or a limit is reached."""

LONGEST = 100
"""Bytes of the target's name that the hidden folder's name repeats: file systems allow 255 in all."""

TEMPORARY = re.compile(r"\..*\.part-[0-9a-f]{8}", re.DOTALL)
"""The names of hidden folders that a replacement makes."""

FORMER = re.compile(r"\.[0-9]+|\.removed")
"""What earlier versions appended to `.NAME`: the process that wrote a file, or the mark of a folder to be removed."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a path to write to, and rename what is there to `path` when the block ends; an error leaves it as it was.

    The folder of `path` is made. A link at `path` is replaced, not followed. Processes and threads may write the same
    `path` at once: the last one that is complete stays.

    Args:
        durable: flush the file to the disk before it is renamed, so that it is whole after a power failure too.

    Raises:
        OSError: no room, or no permission; it names `path`.
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
    """Give an empty folder for the entries `names` of `folder`, and move all of them in when the block ends.

    Earlier entries of these names go away first, in the reverse order, and come back where something cannot be moved.

    Args:
        folder: must be there; other entries of it stay.
        names: files or folders, in the order in which they are moved in.

    Raises:
        OSError: no room, or no permission.
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
        except BaseException:  # an interruption too: the earlier entries lie in what is removed
            for now, before in reversed(moved):
                now.rename(before)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by these bytes, flushed to the disk.

    Raises:
        OSError: no room, or no permission; it names `path`, which is then as it was.
    """
    try:
        with replacing(path, durable=True) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it in one step: nobody sees a part of it. Without one nothing happens."""
    if folder.exists():
        with _hidden_folder(folder.parent, folder.name) as aside:
            folder.rename(aside / folder.name)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left while they wrote `path`; nobody may be writing it now."""
    begin = f".{path.name}"
    for entry in _entries(path.parent):
        former = entry.name.startswith(begin) and FORMER.fullmatch(entry.name[len(begin) :])
        if former or (is_leftover(entry) and entry.name.rpartition(".part-")[0] == f".{_cut(path.name)}"):
            _remove(entry)


def remove_all_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left while they wrote into a folder; nobody may be writing there now."""
    for entry in _entries(folder):
        if is_leftover(entry):
            _remove(entry)


def is_leftover(path: Path) -> bool:
    """Whether a name is one that a replacement gives to what is not complete."""
    return TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def _hidden_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new hidden folder, removed at the end with all that is left in it."""
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
    """The beginning of a name that is too long to be repeated."""
    return os.fsencode(name)[:LONGEST].decode("utf-8", "ignore")


def _flush(file: Path) -> None:
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(entry: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    try:
        entry.rmdir()  # what was complete has left its folder: quicker than to look into it
    except NotADirectoryError:
        with suppress(OSError):
            entry.unlink()
    except OSError:
        shutil.rmtree(entry, ignore_errors=True)
