"""Packed files opened by what is in them, not by their name, and never unpacked without end."""

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
"""What packed files begin with; the last of them is an archive that holds nothing."""

RATIO = 100
"""How many times its size a file may unpack to: annotations have 5 to 20, a file made to fill the memory 1,000."""

ALWAYS = 2**26
"""Bytes that any file may unpack to."""


@contextmanager
def opened_unpacked(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes; of a gzipped one, or of the one file in a ZIP archive, unpacked.

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
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # the last where it has a password
            if isinstance(error, RecursionError):
                raise
            raise CvmError(f"{path} is a ZIP archive that cannot be read: {error}") from None


def archived_name(path: Path) -> str:
    """The name of the one file in a ZIP archive.

    Raises:
        CvmError: a file that is none, a damaged one, or another number of files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return PurePosixPath(_only(archive, path).filename).name
    except zipfile.BadZipFile as error:
        raise CvmError(f"{path} is a ZIP archive that cannot be read: {error}") from None
    except OSError as error:
        raise CvmError(f"{path} cannot be read: {error.strerror or error}") from None


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of an archive, beside those that a system adds."""
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
    """Bytes as they are unpacked, up to the bound."""

    def __init__(self, packed: object, path: Path) -> None:
        self.packed, self.path, self.count = packed, path, 0
        self.most = max(ALWAYS, RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        count: int = self.packed.readinto(buffer)  # type: ignore[attr-defined]
        self.count += count
        if self.count > self.most:
            raise CvmError(f"{self.path} unpacks to more than {RATIO} times its size, which no annotations do")
        return count
