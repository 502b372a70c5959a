"""Locks between processes for one writer per folder; they end with the process that holds them.

They are the operating system's locks, through `filelock`. The mere presence of a lock file means nothing, since a
killed process leaves it, and there is no fall-back to such files where a file system has no locks.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvm_monai.errors import CvmError
from cvm_monai.files.temporary import nameless_file

LOCK = ".lock"
PAUSE = 0.2
"""Seconds between two attempts."""


class NoLocksError(CvmError):
    """Raised where the file system of a folder has no locks."""


@contextmanager
def lock_folder(folder: Path, *, option: str = "--output", wait: float = 0.0) -> Iterator[str | None]:
    """Create and lock the folder; yields None, or a description of the other process that holds it.

    The lock ends with its process and the processes forked from it, also after a kill. The lock file stays.

    Args:
        folder: its file `.lock` is locked.
        option: that names the folder, for error messages.
        wait: seconds to retry while another process holds it; 0 to 60.

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
        while not (held := _try_lock(stream.fileno(), folder, option=option)) and time.monotonic() < end:
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


@contextmanager
def made_by_one(lock: Path) -> Iterator[None]:
    """Hold a lock file, for which others wait, and remove it at the end; without file-system locks nothing is held.

    Raises:
        OSError: the lock file cannot be made.
    """
    from filelock import lock_descriptor

    while True:
        with lock.open("a") as stream:
            with suppress(OSError):
                lock_descriptor(stream.fileno())
            if not _is_at(lock, stream.fileno()):
                continue  # its holder removed it while this process waited, and another file may be there by now
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is the one that the path leads to."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def check_lockable(folder: Path) -> None:
    """Create the folder, and check that files in it can be written and locked.

    Raises:
        CvmError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with nameless_file(folder) as stream:
            _try_lock(stream.fileno(), folder)
    except OSError as error:
        raise CvmError(f"{folder} cannot be written ({error.strerror}): choose another --output") from error


def _try_lock(file: int, folder: Path, *, option: str = "--output") -> bool:
    """Try to lock an open file; returns false where another process holds it."""
    from filelock import lock_descriptor  # imported late: 60 ms, and most commands need no lock

    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        raise NoLocksError(
            f"{folder} cannot be locked ({error.strerror}): its file system has no locks; choose another {option}"
        ) from error
