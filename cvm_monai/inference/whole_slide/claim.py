"""One process for one slide: a lock that ends with its process."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[str | None]:
    """Make the folder and hold it; yields None, or who holds it where another process does.

    The lock is the operating system's: it is gone with its process, also after a kill. The file stays.

    Raises:
        ValueError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another --out") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            yield stream.read().strip() or "another process"
            return
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield None
