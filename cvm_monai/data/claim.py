"""One process for one folder: a lock that ends with its process."""

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cvm_monai.errors import CvmError

LOCK = ".lock"
PAUSE = 0.2
"""Seconds between two tries."""


class NoLocksError(CvmError):
    """The file system of a folder has no locks."""


@contextmanager
def claimed(folder: Path, *, option: str = "--out", wait: float = 0.0) -> Iterator[str | None]:
    """Make the folder and hold it; yields None, or who holds it where another process does.

    The lock is the operating system's: it is gone with its process, also after a kill, and with the processes that it
    forked. The file stays.

    Args:
        folder: whose `.lock` is locked.
        option: by which the user gave the folder, for the sentences.
        wait: seconds for which to try again where another process holds it; 0 to 60.

    Raises:
        CvmError: the folder cannot be written.
        NoLocksError: its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise CvmError(f"{folder} cannot be written ({error.strerror}): choose another {option}") from error
    with stream:
        end = time.monotonic() + wait
        while not (held := _try_lock(stream, folder, option=option)) and time.monotonic() < end:
            time.sleep(PAUSE)
        if not held:
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
        CvmError: they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as stream:
            _try_lock(stream, out)
    except OSError as error:
        raise CvmError(f"{out} cannot be written ({error.strerror}): choose another --out") from error


def _try_lock(stream: IO[Any], folder: Path, *, option: str = "--out") -> bool:
    """Lock the file; false where another process holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # SMB says the second
        return False
    except OSError as error:
        raise NoLocksError(
            f"{folder} cannot be locked ({error.strerror}): its file system has no locks; choose another {option}"
        ) from error
    return True
