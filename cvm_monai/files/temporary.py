"""Create temporary files and folders that are removed automatically."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def temporary_folder(prefix: str = "cvm-monai-") -> Iterator[Path]:
    """Create a temporary folder, removed at the end of the block with its contents."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def private_temporary_folder(prefix: str) -> Path:
    """Create the folder of this process's temporary files from now on; it is removed when the process ends."""
    made = tempfile.TemporaryDirectory(prefix=prefix)
    _KEPT.append(made)
    tempfile.tempdir = made.name
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Removed by Python at the end of the process."""


def temporary_file(suffix: str) -> Path:
    """Create an empty file in the system's folder of temporary files; the caller removes it."""
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        return Path(file.name)


def nameless_file(folder: Path | None = None, *, in_memory: int = 0) -> IO[bytes]:
    """Open a file without a name, which is gone when it is closed or its process ends.

    Args:
        folder: selects the file system; None: the system's folder of temporary files.
        in_memory: bytes that are kept in memory before a file is used.

    Raises:
        OSError: disk full, or no permission.
    """
    where = None if folder is None else str(folder)
    if in_memory:
        return tempfile.SpooledTemporaryFile(in_memory, dir=where)
    return tempfile.TemporaryFile(dir=where)


def place_of_temporary_files(folder: Path | None = None) -> str:
    """Return the folder of `nameless_file`'s files, for error messages."""
    return str(folder) if folder is not None else tempfile.gettempdir()


def try_folder(folder: Path) -> None:
    """Check before long work that a folder can be created and a file written in it.

    Raises:
        OSError: disk full, or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nameless_file(folder).close()
