"""Files of a data set: a folder tried before the work, images written aside and renamed, hashes."""

import contextlib
import errno
import glob
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cvm_monai.errors import CvmError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the file system says where a disk is full, or a quota or a limit is reached."""


def check_writable(out: Path) -> None:
    """Make the folder and try it before the long work starts.

    Raises:
        CvmError: it cannot be written into.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise CvmError(f"cannot write into {out} ({error.strerror or error}): give another --out") from None


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write aside and rename: (H, W) or (H, W, 3) uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part.png")
    try:
        Image.fromarray(pixels).save(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write aside, flush to the disk and rename, so that `path` holds its old content or all of the new.

    Raises:
        OSError: no room, or no permission; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def remove_half_written(path: Path) -> None:
    """Remove what processes that were killed left aside while they wrote `path`; nobody may be writing it now."""
    for aside in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if aside.suffix[1:].isdigit():
            aside.unlink(missing_ok=True)
