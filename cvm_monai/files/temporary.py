"""Temporary files and folders, gone when they are not needed any more."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def temporary_folder(prefix: str = "cvm-monai-") -> Iterator[Path]:
    """A new folder in the system's folder of temporary files, removed at the end with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def private_temporary_folder(prefix: str) -> Path:
    """Make a folder that the temporary files of this process go to from now on; it is removed when the process ends."""
    made = tempfile.TemporaryDirectory(prefix=prefix)
    _KEPT.append(made)
    tempfile.tempdir = made.name
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Removed by Python at the end of the process."""


def temporary_file(suffix: str) -> Path:
    """A new empty file in the system's folder of temporary files, which the caller removes."""
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        return Path(file.name)


def nameless_file(folder: Path | None = None, *, in_memory: int = 0) -> IO[bytes]:
    """An open file without a name: it is gone when it is closed, and where its process is killed.

    Args:
        folder: on whose file system it is; None: the system's for temporary files.
        in_memory: bytes up to which it needs no file at all.

    Raises:
        OSError: no room, or no permission.
    """
    where = None if folder is None else str(folder)
    if in_memory:
        return tempfile.SpooledTemporaryFile(in_memory, dir=where)
    return tempfile.TemporaryFile(dir=where)


def place_of_temporary_files(folder: Path | None = None) -> str:
    """The folder in which `nameless_file` puts a file, for sentences."""
    return str(folder) if folder is not None else tempfile.gettempdir()


def try_folder(folder: Path) -> None:
    """Make a folder and a file in it that is gone at once, to find before long work that neither can be.

    Raises:
        OSError: no room, or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nameless_file(folder).close()
