"""Probability map of a slide on disk: written band by band, resumable, read in strips."""

import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvm_monai.files import read_record, refuse_difference, write_json
from cvm_monai.inference.whole_slide.grid import TissueOnGrid

MAP, PROGRESS = "probability.u8", "progress.json"

FLOAT = 4
"""Bytes of a float32."""
HEIGHT = 256
"""Rows per strip."""


class MapFile:
    """File of a map (height, channels, width) uint8 that grows by bands of rows, each with a checksum.

    A band is written in blocks of columns. After the last one `progress.json` is replaced atomically; only a band
    interrupted before that is computed again. The sums that the band shares with the next are kept beside the map,
    column by column, in two files used alternately.

    Args:
        folder: of its files, created. A partial map made with other settings is refused.
        shape: (height, channels, width).
        settings: all that determines the map's values.

    Raises:
        CvmError: the folder holds a part of a map made with other settings.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], settings: Mapping[str, Any]) -> None:
        self.folder, self.shape = folder, shape
        self._facts: dict[str, Any] = {"shape": list(shape), "settings": dict(settings)}
        self.bands: list[dict[str, Any]] = []
        self._carry: dict[str, Any] | None = None
        self._written, self._shared_rows = False, 0  # of the current band
        found = read_progress(folder)
        if found is not None:
            refuse_difference(
                found["settings"],
                self._facts["settings"],
                what=f"{folder} holds a part made with other settings",
                advice="give another folder, or remove it",
            )
            if found["shape"] == list(shape) and self._intact(found):
                self.bands, self._carry = found["bands"], found["carry"]
                return
        self._begin()

    @property
    def rows(self) -> int:
        """Number of finished rows."""
        return int(self.bands[-1]["last"]) if self.bands else 0

    @property
    def carries(self) -> bool:
        """Whether the last finished band shares sums with the next."""
        return self._carry is not None

    def carried(self, first: int, last: int) -> np.ndarray | None:
        """Read the sums that the last finished band shares with the next: (columns, channels + 1, rows) float32.

        None where there are none.
        """
        if self._carry is None:
            return None
        column = (self.shape[1] + 1, int(self._carry["rows"]))
        with (self.folder / self._carry["file"]).open("rb") as file:
            file.seek(first * column[0] * column[1] * FLOAT)
            values = np.fromfile(file, np.float32, (last - first) * column[0] * column[1])
        return values.reshape(-1, *column)

    def write(self, column: int, values: np.ndarray) -> None:
        """Write some columns of the next band, (rows, channels, columns) uint8."""
        data, start = np.ascontiguousarray(values), self.rows * self._row + column
        with (self.folder / MAP).open("r+b", buffering=0) as file:
            for number, line in enumerate(data.reshape(-1, data.shape[2])):
                file.seek(start + number * self.shape[2])
                file.write(line.data)
        self._written = True

    def write_carry(self, column: int, shared: np.ndarray) -> None:
        """Write columns of the sums that the next band shares with the one after, (columns, channels + 1, rows)."""
        path, size = self.folder / self._next_carry, shared[0].size * FLOAT
        if self._shared_rows == 0:
            with path.open("wb") as file:
                file.truncate(self.shape[2] * size)
        self._shared_rows = shared.shape[2]
        with path.open("r+b") as file:
            file.seek(column * size)
            file.write(np.ascontiguousarray(shared).data)

    def finish_band(self, rows: int) -> None:
        """Finish the next band of so many rows, zero where nothing was written."""
        first = self.rows
        check = self._check_rows(first, first + rows) if self._written else 0
        band = {"first": first, "last": first + rows, "crc32": check, "zeros": not self._written}
        carry = None
        if self._shared_rows:
            name = self._next_carry
            carry = {"file": name, "rows": self._shared_rows, "crc32": _check_file(self.folder / name)}
        bands = [*self.bands, band]
        write_json(self.folder / PROGRESS, {**self._facts, "bands": bands, "carry": carry})
        self.bands, self._carry = bands, carry
        self._written, self._shared_rows = False, 0

    def read(self, first: int, last: int) -> np.ndarray:
        """Read rows: (last - first, channels, width) uint8."""
        with (self.folder / MAP).open("rb") as file:
            file.seek(first * self._row)
            values = np.fromfile(file, np.uint8, (last - first) * self._row)
        return values.reshape(-1, *self.shape[1:])

    def remove(self) -> None:
        """Remove all files, once the results are written."""
        shutil.rmtree(self.folder)

    @property
    def _row(self) -> int:
        return self.shape[1] * self.shape[2]

    def _begin(self) -> None:
        """Create an empty map, a sparse file where the file system supports them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with (self.folder / MAP).open("wb") as file:
            file.truncate(self.shape[0] * self._row)
        write_json(self.folder / PROGRESS, {**self._facts, "bands": [], "carry": None})

    @property
    def _next_carry(self) -> str:
        """Return the file of shared sums that the last progress does not name."""
        return f"carry_{(len(self.bands) + 1) % 2}.f32"

    def _check_rows(self, first: int, last: int) -> int:
        """Compute the checksum of some rows on disk."""
        with (self.folder / MAP).open("rb") as file:
            file.seek(first * self._row)
            return _check(file, (last - first) * self._row)

    def _intact(self, found: Mapping[str, Any]) -> bool:
        """Whether the files agree with the progress record."""
        try:
            if os.path.getsize(self.folder / MAP) != self.shape[0] * self._row:
                return False
            carry = found["carry"]
            if carry is not None and _check_file(self.folder / carry["file"]) != carry["crc32"]:
                return False
            if carry is not None and os.path.getsize(self.folder / carry["file"]) != self._carry_bytes(carry["rows"]):
                return False
            return all(
                band["zeros"] or self._check_rows(band["first"], band["last"]) == band["crc32"]
                for band in found["bands"]
            )
        except (OSError, KeyError):
            return False

    def _carry_bytes(self, rows: int) -> int:
        return self.shape[2] * (self.shape[1] + 1) * rows * FLOAT


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Read `progress.json` of a folder; None where it is missing or unreadable."""
    found = read_record(folder / PROGRESS)
    known = found is not None and {"shape", "settings", "bands", "carry"} <= set(found)
    return found if known else None


def _check_file(path: Path) -> int:
    with path.open("rb") as file:
        return _check(file, path.stat().st_size)


def _check(file: IO[bytes], count: int) -> int:
    """Compute the CRC-32 of the next `count` bytes, read a mebibyte at a time."""
    check = 0
    while count > 0 and (data := file.read(min(count, 2**20))):
        check, count = zlib.crc32(data, check), count - len(data)
    return check


def strips(
    store: MapFile, tissue: TissueOnGrid, *, stride: int, height: int = HEIGHT
) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over strips (first row, (h, channels, W) uint8 probabilities), from top to bottom.

    A coarse map is resized bilinearly: pixel j of a map of stride k lies over network pixels [j k, (j + 1) k).

    Args:
        store: the map.
        tissue: mask on the grid.
        stride: of the map.
        height: rows per strip; the last may have fewer.
    """
    full = tissue.grid.shape
    for first in range(0, full[0], height):
        last = min(first + height, full[0])
        values = store.read(first, last) if stride == 1 else _enlarged(store, first, last, full[1], stride)
        yield first, np.where(tissue.rows(first, last)[:, None], values, np.uint8(0))


def foreground(values: np.ndarray) -> np.ndarray:
    """Compute the probability of any foreground class, (h, W) uint8, from (h, channels, W)."""
    if values.shape[1] == 1:
        return values[:, 0]
    total = values.sum(1, dtype=np.uint16)
    return np.asarray(np.minimum(total, 255).astype(np.uint8))


def labels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the argmax class (h, W) uint8 and its probability as uint8; for two classes, 1 where p > 0.5.

    Ties of rounded probabilities go to the lowest class number.
    """
    if values.shape[1] == 1:
        return (values[:, 0] > 127).astype(np.uint8), values[:, 0]
    best = values.argmax(1)
    probability = np.take_along_axis(values, best[:, None], 1)[:, 0]
    background = 255 - values.sum(1, dtype=np.int16)
    return np.where(probability > background, best + 1, 0).astype(np.uint8), probability


def _enlarged(store: MapFile, first: int, last: int, width: int, stride: int) -> np.ndarray:
    """Resize rows `first` to `last` of a coarse map to the network's um/px."""
    below, part = _taps(np.arange(first, last), stride, store.shape[0])
    low = int(below.min())
    rows = store.read(low, min(int(below.max()) + 2, store.shape[0])).astype(np.float32)
    upper, lower = rows[below - low], rows[np.minimum(below - low + 1, len(rows) - 1)]
    mixed = upper + (lower - upper) * part[:, None, None]
    left, across = _taps(np.arange(width), stride, store.shape[2])
    right = np.minimum(left + 1, store.shape[2] - 1)
    return np.rint(mixed[:, :, left] * (1 - across) + mixed[:, :, right] * across).astype(np.uint8)


def _taps(pixels: np.ndarray, stride: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coarse pixel whose centre is at or before a fine pixel's, and the fraction to the next, in [0, 1)."""
    position = np.clip((pixels + 0.5) / stride - 0.5, 0, count - 1)
    below = np.floor(position).astype(np.int64)
    return below, (position - below).astype(np.float32)
