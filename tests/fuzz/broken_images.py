"""Images that are odd, damaged, or lie about themselves."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from .broken_bytes import broken_bytes

SUFFIXES = (".png", ".jpg", ".bmp", ".tif")
SIDES = (0, 1, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**32 - 1)
"""Heights and widths that a header may claim."""


def noise_image(rng: np.random.Generator, shape: tuple[int, ...] = (40, 48, 3)) -> np.ndarray:
    """Colours of stained tissue, more or less."""
    image = rng.integers(60, 250, shape, dtype=np.uint8)
    if len(shape) == 3:
        image[..., 1] //= 2
    return image


def broken_image(rng: np.random.Generator, path: Path) -> Path:
    """Write an image of one odd kind in place of the one at `path`, perhaps under another suffix; the file's path."""
    make = KINDS[rng.integers(len(KINDS))]
    suffix, data = make(rng)
    path.unlink(missing_ok=True)
    target = path.with_suffix(suffix)
    target.write_bytes(data)
    return target


def encoded(image: np.ndarray | Image.Image, suffix: str, **options: Any) -> bytes:
    """An image as a file's bytes."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    picture.save(stream, {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF"}[suffix], **options)
    return stream.getvalue()


def tiff(image: np.ndarray, **options: Any) -> bytes:
    """An image as tifffile writes it."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, metadata=None, **options)
    return stream.getvalue()


def damaged(rng: np.random.Generator) -> tuple[str, bytes]:
    """A good image with some bytes changed."""
    suffix = SUFFIXES[rng.integers(len(SUFFIXES))]
    if suffix == ".tif":
        compression = [None, "zlib", "lzw", "jpeg"][rng.integers(4)]
        tile = (16, 16) if rng.random() < 0.5 else None
        return suffix, broken_bytes(rng, tiff(noise_image(rng), compression=compression, tile=tile, photometric="rgb"))
    return suffix, broken_bytes(rng, encoded(noise_image(rng), suffix))


def misnamed(rng: np.random.Generator) -> tuple[str, bytes]:
    """A good image under another format's suffix."""
    first, second = rng.choice(SUFFIXES, 2, replace=False)
    return second, encoded(noise_image(rng), first)


def tiny(rng: np.random.Generator) -> tuple[str, bytes]:
    """One pixel, one row or one column."""
    shape = [(1, 1, 3), (1, 50, 3), (50, 1, 3), (2, 2)][rng.integers(4)]
    suffix = SUFFIXES[rng.integers(len(SUFFIXES))]
    return suffix, encoded(noise_image(rng, shape), suffix)


def other_pixels(rng: np.random.Generator) -> tuple[str, bytes]:
    """Grey, palettes, transparency, CMYK, 16 bits, one bit, floating point."""
    picture = Image.fromarray(noise_image(rng))
    suffix, mode = [
        (".png", "L"), (".png", "LA"), (".png", "P"), (".png", "RGBA"), (".png", "1"), (".png", "I;16"),
        (".jpg", "L"), (".jpg", "CMYK"), (".bmp", "P"), (".bmp", "1"),
        (".tif", "CMYK"), (".tif", "P"), (".tif", "1"), (".tif", "LAB"), (".tif", "YCbCr"), (".tif", "F"),
        (".tif", "I"),
    ][rng.integers(17)]  # fmt: skip
    if mode == "I;16":
        return suffix, encoded(rng.integers(2**16, size=(40, 48), dtype=np.uint16), suffix)
    picture = Image.fromarray(np.float32(picture.convert("L"))) if mode == "F" else _converted(picture, mode)
    options = {"transparency": 3} if mode == "P" and suffix == ".png" and rng.random() < 0.5 else {}
    return suffix, encoded(picture, suffix, **options)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.frombytes("LAB", picture.size, picture.tobytes())
    return picture.convert(mode)


def other_tiff(rng: np.random.Generator) -> tuple[str, bytes]:
    """TIFFs as microscopes write them: 16 and 32 bits, floats, many channels, pages, planes, MINISWHITE, big-endian."""
    dtype = [np.uint8, np.uint16, np.uint32, np.int16, np.float32, np.float64, bool, np.complex64][rng.integers(8)]
    shape = [(40, 48), (40, 48, 3), (40, 48, 4), (40, 48, 7), (3, 40, 48), (5, 40, 48, 3)][rng.integers(6)]
    image = (rng.random(shape) * 200).astype(dtype)
    options: dict[str, Any] = {"byteorder": "<>"[rng.integers(2)], "bigtiff": bool(rng.integers(2))}
    if shape[-1] == 48:
        options["photometric"] = ["minisblack", "miniswhite"][rng.integers(2)]
    return ".tif", tiff(image, **options)


def lying_header(rng: np.random.Generator) -> tuple[str, bytes]:
    """A header that claims another size than the pixels have, often a huge one, or none at all."""
    height, width = (int(SIDES[rng.integers(len(SIDES))]) if rng.random() < 0.8 else 40 for _ in range(2))
    suffix = SUFFIXES[rng.integers(len(SUFFIXES))]
    return suffix, LIARS[suffix](noise_image(rng), height, width)


def lying_png(image: np.ndarray, height: int, width: int) -> bytes:
    """A PNG whose header, checksum included, claims the size."""
    data = encoded(image, ".png")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def lying_jpeg(image: np.ndarray, height: int, width: int) -> bytes:
    """A JPEG whose frame claims the size, 65535 at most."""
    data = encoded(image, ".jpg")
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[frame + 4 :]


def lying_bmp(image: np.ndarray, height: int, width: int) -> bytes:
    """A BMP whose header claims the size."""
    data = encoded(image, ".bmp")
    return data[:18] + struct.pack("<II", width, height) + data[26:]


def lying_tiff(image: np.ndarray, height: int, width: int) -> bytes:
    """A TIFF whose tags claim the size."""
    stream = io.BytesIO(tiff(image, photometric="rgb", compression="zlib"))
    with tifffile.TiffFile(stream) as file:
        places = {tag.name: tag.valueoffset for tag in file.pages.first.tags}
        types = {tag.name: tag.offset + 2 for tag in file.pages.first.tags}
    data = bytearray(stream.getvalue())
    for name, value in (("ImageLength", height), ("ImageWidth", width), ("RowsPerStrip", height)):
        data[types[name] : types[name] + 2] = struct.pack("<H", 4)  # LONG
        data[places[name] : places[name] + 4] = struct.pack("<I", value)
    return bytes(data)


LIARS = {".png": lying_png, ".jpg": lying_jpeg, ".bmp": lying_bmp, ".tif": lying_tiff}


def bomb(rng: np.random.Generator) -> tuple[str, bytes]:
    """A header of a hundred million pixels and more, over data that begin as if all of them followed."""
    height = int(rng.integers(2**13, 2**15))
    rows = zlib.compress(bytes(3 * height + 1) * 3)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", height, height, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return ".png", b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def no_image(rng: np.random.Generator) -> tuple[str, bytes]:
    """Something else than an image under an image's suffix."""
    text = [b"<html><body>404</body></html>", b"{}", b"%PDF-1.7", b"#!/bin/sh\n", b"version https://git-lfs.github.com"]
    return SUFFIXES[rng.integers(len(SUFFIXES))], text[rng.integers(len(text))]


KINDS = (damaged, damaged, damaged, misnamed, tiny, other_pixels, other_tiff, other_tiff, lying_header, lying_header,
         bomb, no_image)  # fmt: skip
