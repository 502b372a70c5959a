"""Open gzipped files and ZIP archives, recognised by their content, with a limit on the unpacked size."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cvm_monai.errors import CvmError

GZIP, ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of packed files; the last entry is an empty archive."""

RATIO = 100
"""Maximal ratio of unpacked to packed size: 5 to 20 for annotations, 1,000 for a file made to fill the memory."""

ALWAYS = 2**26
"""Unpacked bytes that are always allowed."""


@contextmanager
def opened_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, unpacked if it is gzipped or a ZIP archive of one file.

    Raises:
        CvmError: a packed file that is damaged, or unpacks to more than 100 times its size, or an archive of another
            number of files.
        OSError: a file that cannot be read.
    """
    with path.open("rb") as raw:
        start = raw.peek(4)[:4]
        try:
            if start.startswith(GZIP):
                with gzip.GzipFile(fileobj=raw) as packed:
                    yield _bounded(packed, path)
            elif start in ZIP:
                with zipfile.ZipFile(raw) as archive, archive.open(_only(archive, path)) as packed:
                    yield _bounded(packed, path)
            else:
                yield raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CvmError(f"{path} is not a complete gzip file: {error}") from None
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError for one with a password
            if isinstance(error, RecursionError):
                raise
            raise CvmError(f"{path} is a ZIP archive that cannot be read: {error}") from None


def archived_name(path: Path) -> str:
    """Return the name of the only file in a ZIP archive.

    Raises:
        CvmError: not a ZIP archive, a damaged one, or another number of files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return PurePosixPath(_only(archive, path).filename).name
    except zipfile.BadZipFile as error:
        raise CvmError(f"{path} is a ZIP archive that cannot be read: {error}") from None
    except OSError as error:
        raise CvmError(f"{path} cannot be read: {error.strerror or error}") from None


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the only file of an archive, apart from those that an operating system adds."""
    files = [file for file in archive.infolist() if not file.is_dir() and not _hidden(file.filename)]
    if len(files) != 1:
        raise CvmError(f"{path} is a ZIP archive of {len(files)} files; one annotation file is expected in it")
    return files[0]


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".")


def _bounded(packed: object, path: Path) -> BinaryIO:
    return io.BufferedReader(_Bounded(packed, path), 2**16)


class _Bounded(io.RawIOBase):
    """Reader of unpacked bytes that fails beyond the limit."""

    def __init__(self, packed: object, path: Path) -> None:
        self.packed, self.path, self.count = packed, path, 0
        self.most = max(ALWAYS, RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        count: int = self.packed.readinto(buffer)  # type: ignore[attr-defined]
        self.count += count
        if self.count > self.most:
            raise CvmError(f"{self.path} unpacks to more than {RATIO} times its size, too much for annotations")
        return count
