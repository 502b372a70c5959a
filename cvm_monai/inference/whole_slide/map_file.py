"""The finished part of a slide's probability map on disk, from which an interrupted prediction goes on."""

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.provenance import write_json

MAP, PROGRESS = "probability.u8", "progress.json"


class MapFile:
    """A map (height, channels, width) uint8 that grows by bands of rows, each with a checksum.

    After each band `progress.json` is replaced in one step: what was killed before that is done again, and nothing
    else. What the band shares with the next is kept beside the map, in one of two files in turn.

    Args:
        folder: of its files; made. What other settings left there is refused.
        shape: (height, channels, width).
        settings: whatever decides what the map holds.

    Raises:
        ValueError: the folder holds a part of a map made with other settings.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], settings: Mapping[str, Any]) -> None:
        self.folder, self.shape = folder, shape
        self._facts: dict[str, Any] = {"shape": list(shape), "settings": plain_settings(settings)}
        self.bands: list[dict[str, Any]] = []
        self._carry: dict[str, Any] | None = None
        found = read_progress(folder)
        if found is not None:
            if reason := difference(found["settings"], self._facts["settings"]):
                raise ValueError(f"{folder} holds a part made with other settings: {reason}")
            if found["shape"] == list(shape) and self._intact(found):
                self.bands, self._carry = found["bands"], found["carry"]
                return
        self._begin()

    @property
    def rows(self) -> int:
        """Rows that are finished."""
        return int(self.bands[-1]["last"]) if self.bands else 0

    def carried(self) -> np.ndarray | None:
        """What the last finished band shares with the next; None: nothing."""
        return None if self._carry is None else np.load(self.folder / self._carry["file"])

    def append(self, values: np.ndarray | None, rows: int, carried: np.ndarray | None) -> None:
        """Write the next band (rows, channels, width) uint8, None for zeros, and what it shares with its next."""
        first = self.rows
        check = 0
        if values is not None:
            data = np.ascontiguousarray(values)
            check = _crc32(data)
            with (self.folder / MAP).open("r+b") as file:
                file.seek(first * self._row)
                file.write(data.data)
        band = {"first": first, "last": first + rows, "crc32": check, "zeros": values is None}
        carry = None if carried is None else self._keep(carried)
        bands = [*self.bands, band]
        write_json(self.folder / PROGRESS, {**self._facts, "bands": bands, "carry": carry})
        self.bands, self._carry = bands, carry

    def read(self, first: int, last: int) -> np.ndarray:
        """(last - first, channels, width) uint8."""
        with (self.folder / MAP).open("rb") as file:
            file.seek(first * self._row)
            values = np.fromfile(file, np.uint8, (last - first) * self._row)
        return values.reshape(-1, *self.shape[1:])

    def remove(self) -> None:
        """Remove all files: the results are made."""
        shutil.rmtree(self.folder)

    @property
    def _row(self) -> int:
        return self.shape[1] * self.shape[2]

    def _begin(self) -> None:
        """An empty map: a sparse file where the file system has them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with (self.folder / MAP).open("wb") as file:
            file.truncate(self.shape[0] * self._row)
        write_json(self.folder / PROGRESS, {**self._facts, "bands": [], "carry": None})

    def _keep(self, carried: np.ndarray) -> dict[str, Any]:
        """Write into the file that the last progress does not name."""
        name = f"carry_{(len(self.bands) + 1) % 2}.npy"
        np.save(self.folder / name, carried)
        return {"file": name, "crc32": _crc32(carried)}

    def _intact(self, found: Mapping[str, Any]) -> bool:
        """Whether the files are those that the progress speaks of."""
        try:
            if os.path.getsize(self.folder / MAP) != self.shape[0] * self._row:
                return False
            carry = found["carry"]
            if carry is not None and _crc32(np.load(self.folder / carry["file"])) != carry["crc32"]:
                return False
            return all(
                band["zeros"] or _crc32(self.read(band["first"], band["last"])) == band["crc32"]
                for band in found["bands"]
            )
        except (OSError, ValueError, EOFError):
            return False


def read_progress(folder: Path) -> dict[str, Any] | None:
    """What `progress.json` of a folder says; None where there is none that can be read."""
    try:
        found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(found, dict) and {"shape", "settings", "bands", "carry"} <= set(found)
    return found if known else None


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they read back from JSON."""
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting that differs, in words; empty where none does."""
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            return f"{name} was {_short(before.get(name))}, now it is {_short(now.get(name))}"
    return ""


def _crc32(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
