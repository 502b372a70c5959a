"""Damage to the bytes of any file."""

import numpy as np

MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"GIF89a",
)
"""The first bytes of PNG, JPEG, BMP, two TIFFs, zip, gzip and GIF."""


def broken_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """The bytes with one kind of damage."""
    return DAMAGES[rng.integers(len(DAMAGES))](rng, data)


def truncated(rng: np.random.Generator, data: bytes) -> bytes:
    """A download that broke off."""
    return data[: rng.integers(len(data) + 1)]


def flipped(rng: np.random.Generator, data: bytes) -> bytes:
    """Some bits turned around, more often near the beginning, where headers are."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 200)
        if reach:
            damaged[rng.integers(reach)] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwritten(rng: np.random.Generator, data: bytes) -> bytes:
    """A stretch of zeros, of ones or of noise."""
    damaged = bytearray(data)
    begin, length = rng.integers(len(data) + 1), rng.integers(1, 64)
    fill = [b"\x00" * length, b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    damaged[begin : begin + length] = fill
    return bytes(damaged)


def inserted(rng: np.random.Generator, data: bytes) -> bytes:
    """Noise between two bytes."""
    place = rng.integers(len(data) + 1)
    return data[:place] + rng.bytes(rng.integers(1, 16)) + data[place:]


def repeated(rng: np.random.Generator, data: bytes) -> bytes:
    """A stretch twice."""
    first, last = sorted(rng.integers(len(data) + 1, size=2))
    return data[:last] + data[first:last] + data[last:]


def noise(rng: np.random.Generator, data: bytes) -> bytes:
    """Something else altogether, sometimes behind another format's first bytes."""
    return (MAGIC[rng.integers(len(MAGIC))] if rng.random() < 0.5 else b"") + rng.bytes(rng.integers(300))


def emptied(rng: np.random.Generator, data: bytes) -> bytes:
    """Nothing, or white space."""
    return [b"", b"\n", b" \r\n\t", b"\xef\xbb\xbf"][rng.integers(4)]


def other_encoding(rng: np.random.Generator, data: bytes) -> bytes:
    """Text in another encoding than UTF-8."""
    text = data.decode("latin-1") + "äöü€"
    return text.encode(["utf-16", "utf-32", "cp1252", "utf-8-sig"][rng.integers(4)], errors="replace")


DAMAGES = (truncated, flipped, flipped, overwritten, inserted, repeated, noise, emptied, other_encoding)
