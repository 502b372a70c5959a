"""SHA-256 of files and bytes, in hexadecimal."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(data: bytes) -> str:
    """Hash bytes in memory."""
    return hashlib.sha256(data).hexdigest()
