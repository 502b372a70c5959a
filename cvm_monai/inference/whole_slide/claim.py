"""One process for one slide: a lock that ends with its process."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[str | None]:
    """Make the folder and hold it; yields None, or who holds it where another process does.

    The lock is the operating system's: it is gone with its process, also after a kill. The file stays.

    Raises:
        ValueError: the folder cannot be written, or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another --out") from error
    with stream:
        if not _try_lock(stream, folder):
            stream.seek(0)
            yield stream.read().strip() or "another process"
            return
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield None


def check_out(out: Path) -> None:
    """Make the folder of all results, and see that files in it can be written and locked.

    Raises:
        ValueError: they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as stream:
            _try_lock(stream, out)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror}): choose another --out") from error


def _try_lock(stream: IO[Any], folder: Path) -> bool:
    """Lock the file; false where another process holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # SMB says the second
        return False
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be locked ({error.strerror}): its file system has no locks; choose another --out"
        ) from error
    return True
