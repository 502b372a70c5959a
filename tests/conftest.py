"""Fixtures that every test may use."""

import functools
import os
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the label app's own environment, whose tests need none
    pass
else:  # the same examples each time, so that no test fails by chance; nothing is kept between runs
    settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The developers' folder of golden files and real tissue; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CVM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"the developers' data folder is not at {folder} (set CVM_SHARED to where it is)")
    return folder


@pytest.fixture(autouse=True)
def copied_databases(tmp_path_factory: pytest.TempPathFactory) -> None:
    """MLflow's migrations, a second for each new database, run once in this process: the others are copies."""
    utils = sys.modules.get("mlflow.store.db.utils")
    if utils is not None and not hasattr(utils._upgrade_db, "__wrapped__"):
        utils._upgrade_db = copying(utils._upgrade_db, tmp_path_factory.mktemp("mlflow") / "migrated.db")


def copying(upgrade: Callable[[Any], None], migrated: Path) -> Callable[[Any], None]:
    """MLflow's upgrade of a database, which for a new file of SQLite copies the first one that was made."""

    @functools.wraps(upgrade)
    def upgraded(engine: Any) -> None:
        from sqlalchemy import inspect

        file = engine.url.database
        if engine.dialect.name != "sqlite" or not Path(file).is_file() or inspect(engine).has_table("alembic_version"):
            upgrade(engine)
        elif migrated.exists():
            copy_database(migrated, file)
        else:
            upgrade(engine)
            copy_database(file, migrated)

    return upgraded


def copy_database(source: str | Path, target: str | Path) -> None:
    """All of an SQLite database in place of what another holds."""
    with closing(sqlite3.connect(source)) as first, closing(sqlite3.connect(target)) as second:
        first.backup(second)


def write_dicom(path: Path, series: str, *, implicit: bool = False) -> Path:
    """A DICOM header with sequences before its SeriesInstanceUID, and nothing after."""

    def element(group: int, number: int, kind: bytes, value: bytes, *, bare: bool, length: int | None = None) -> bytes:
        value += b"\0" * (len(value) % 2)
        size, tag = len(value) if length is None else length, struct.pack("<HH", group, number)
        if bare:
            return tag + struct.pack("<I", size) + value
        return tag + kind + (struct.pack("<2xI", size) if kind == b"SQ" else struct.pack("<H", size)) + value

    syntax = b"1.2.840.10008.1.2" + (b"" if implicit else b".1")
    other = element(0x0020, 0x000E, b"UI", b"9.9.9", bare=implicit)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + other + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    undefined = item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    parts = [
        element(0x0002, 0x0010, b"UI", syntax, bare=False),
        element(0x0008, 0x0060, b"CS", b"SM", bare=implicit),
        element(0x0008, 0x1115, b"SQ", undefined, bare=implicit, length=0xFFFFFFFF),
        element(0x0008, 0x1199, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(other)) + other, bare=implicit),
        element(0x0020, 0x000D, b"UI", b"1.2.3", bare=implicit),
        element(0x0020, 0x000E, b"UI", series.encode(), bare=implicit),
        element(0x0028, 0x0010, b"US", b"\1\0", bare=implicit),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"".join(parts))
    return path


@pytest.fixture
def make_dicom() -> Callable[..., Path]:
    """Writes the header of a DICOM file, given its path and series."""
    return write_dicom


@pytest.fixture
def dicom_series(partly_scanned: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a folder of the files of one series, each of which OpenSlide "opens" as the same slide."""

    def make(folder, pixels, names, *, series="1.2.840.7"):
        for name in names:
            partly_scanned(folder / f"{name}.dcm", pixels, None)
            write_dicom(folder / f"{name}.dcm", series)
        return folder

    return make


@pytest.fixture
def partly_scanned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes MRXS slides that OpenSlide "opens": (height, width, 3) pixels, of which a part was scanned.

    Called with the path, the pixels, the part (x, y, width, height) or None, and the um/px.
    """
    from PIL import Image

    made = {}

    class Slide:
        level_downsamples = (1.0,)

        def __init__(self, path):
            self.pixels, self.properties = made[Path(path)]
            self.level_dimensions = ((self.pixels.shape[1], self.pixels.shape[0]),)

        def read_region(self, location, level, size):
            x, y = location
            return Image.fromarray(self.pixels[y : y + size[1], x : x + size[0]]).convert("RGBA")

        def close(self):
            pass

    def make(path, pixels, part, *, mpp=0.5):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a slide")
        properties = {"openslide.vendor": "mirax", "openslide.mpp-x": str(mpp), "openslide.mpp-y": str(mpp)}
        if part is not None:
            names = ("x", "y", "width", "height")
            properties |= {f"openslide.bounds-{name}": str(value) for name, value in zip(names, part, strict=True)}
        made[path] = pixels, properties
        return path

    monkeypatch.setattr("openslide.OpenSlide", Slide)
    return make
