"""Store the pseudo-labels of all training images on disk, renewed as a whole and replaced atomically."""

import io
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.files import remove_leftovers, write_bytes

POINTER = "current.json"
INDEX = "index.json"
UNCHANGED = 1e-4
"""Mean difference of two labels of a case up to which they are the same."""


class PseudoLabelStore:
    """Pseudo-labels by case id in a folder; loader workers may read while a renewal is written.

    Each renewal is a folder of `.npy` files with an index, written last; `current.json`, replaced atomically, names
    the current renewal and the file of each case. A reader sees the old renewal or the new one, never a mixture.
    Renewals that checkpoints refer to are kept (`hold`) and can be made current again (`restore`).

    Args:
        folder: created when the first renewal is published.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._stamp: tuple[int, int] | None = None
        self._pointer: dict = {}
        self._held: frozenset[int] = frozenset()
        self.unchanged = 0
        """Labels of the last `write` that equalled the current ones."""

    def publish(self, labels: Mapping[str, np.ndarray]) -> int:
        """Write `labels` as the next renewal and make it current; return its number, from 1.

        Case id -> float32, (H, W) in [0, 1] or, with more than two classes, (C, H, W), -1 where unknown; on the
        network's output grid or a coarser one.
        """
        version = self.begin()
        self.commit(version, self.write(labels, version=version))
        return version

    def begin(self) -> int:
        """Make the folder of the next renewal; return its number. Of several processes only the first calls this."""
        version = self.version + 1
        folder = self._renewal(version)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return version

    def write(self, labels: Mapping[str, np.ndarray], *, version: int, writer: int = 0) -> dict[str, str]:
        """Write labels of a renewal that is not current yet; return the file of each case.

        Several processes may write concurrently, each with its own `writer` number. A label that differs from the
        case's current one by at most `UNCHANGED` on average is not written again: the current file gets a second name.

        Raises:
            OSError: no space, or no permission; the current renewal is unchanged.
        """
        folder = self._renewal(version)
        files, self.unchanged = {}, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for index, (case_id, label) in enumerate(labels.items()):
                files[case_id] = f"{folder.name}/{writer}-{index:06d}.npy"
                values = np.asarray(label, dtype=np.float32)
                if self._linked(case_id, values, self.folder / files[case_id]):
                    self.unchanged += 1
                else:
                    _save(self.folder / files[case_id], values)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        return files

    def _linked(self, case_id: str, values: np.ndarray, path: Path) -> bool:
        """Give the case's current file a second name if the values are those in it; False where it has to be written.

        Of a file system without hard links nothing is said: the file is written.
        """
        file = self._current().get("files", {}).get(case_id)
        try:
            before = None if file is None else np.load(self.folder / file, allow_pickle=False)
            if before is None or before.shape != values.shape or np.abs(before - values).mean() > UNCHANGED:
                return False
            path.unlink(missing_ok=True)
            path.hardlink_to(self.folder / str(file))
        except (OSError, ValueError):
            return False
        return True

    def stored_bytes(self) -> int:
        """Size of all labels that the folder holds, of the current renewal and those kept, each file once."""
        found = [path.stat() for path in self.folder.glob("*/*.npy")]
        return sum({entry.st_ino: entry.st_size for entry in found}.values())

    def commit(self, version: int, files: Mapping[str, str]) -> None:
        """Make a renewal current; `files` are all files that `write` returned, of all writers."""
        pointer = {"version": version, "files": dict(files)}
        write_bytes(self._renewal(version) / INDEX, json.dumps(pointer).encode())
        self._replace_pointer(pointer)
        self._remove({*self._held, version - 1, version})  # the previous one is kept for current readers

    def wait_for(self, version: int, *, seconds: float = 90.0) -> None:
        """Wait until this process sees a renewal that another process made current.

        On network file systems a replaced file becomes visible after seconds, up to a minute.

        Raises:
            CvmError: it is not visible in time: the processes do not share the folder.
        """
        end = time.monotonic() + seconds
        while self.version != version:
            if time.monotonic() > end:
                raise CvmError(
                    f"this process does not see the pseudo-labels that the first one wrote into {self.folder}: "
                    "put --output_dir on a file system that all machines of the training share"
                )
            time.sleep(0.1)

    def get(self, case_id: str) -> np.ndarray | None:
        """Return the case's current pseudo-label, or None where it has none.

        Raises:
            FileNotFoundError: the case's file is missing in the current renewal.
        """
        while True:
            pointer = self._current()
            file = pointer.get("files", {}).get(case_id)
            if file is None:
                return None
            try:
                label: np.ndarray = np.load(self.folder / file, allow_pickle=False)
                return label
            except FileNotFoundError:
                if self._current() is pointer:
                    raise  # otherwise two renewals since the pointer was read have removed the file

    @property
    def version(self) -> int:
        """Number of the current renewal; 0 before the first."""
        return int(self._current().get("version", 0))

    def hold(self, versions: Iterable[int]) -> None:
        """Keep these renewals, which checkpoints refer to, until another call replaces the list."""
        self._held = frozenset(versions)

    def restore(self, version: int) -> None:
        """Make a renewal current again, 0 for none, and remove the others that are not held.

        Raises:
            CvmError: it is missing or incomplete.
        """
        pointer = {"version": 0, "files": {}} if version == 0 else self._index(version)
        if version or self.folder.is_dir():
            self._replace_pointer(pointer)
            self._remove({*self._held, version})

    def clear(self) -> None:
        """Remove every pseudo-label: a new training starts from points alone."""
        self.hold(())
        self.restore(0)

    def _index(self, version: int) -> dict:
        file = self.folder / f"{version:04d}" / INDEX
        try:
            index: dict = json.loads(file.read_text(encoding="utf-8"))
            missing = [name for name in index["files"].values() if not (self.folder / name).is_file()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CvmError(f"{file} does not list the pseudo-labels of renewal {version} ({error})") from error
        if missing:
            raise CvmError(f"{self.folder / missing[0]}, a pseudo-label of renewal {version}, is missing")
        return index

    def _remove(self, kept: set[int]) -> None:
        """Remove the renewals that are not kept, and incomplete files."""
        remove_leftovers(self.folder / POINTER)
        for entry in self.folder.iterdir():
            if entry.is_dir() and entry.name.isdigit() and int(entry.name) not in kept:
                shutil.rmtree(entry, ignore_errors=True)

    def _renewal(self, version: int) -> Path:
        return self.folder / f"{version:04d}"

    def _replace_pointer(self, pointer: dict) -> None:
        write_bytes(self.folder / POINTER, json.dumps(pointer).encode())
        self._stamp = None

    def _current(self) -> dict:
        """Return the pointer's content, read again only when the file has changed."""
        try:
            state = (self.folder / POINTER).stat()
        except FileNotFoundError:
            self._stamp, self._pointer = None, {}
            return self._pointer
        stamp = (state.st_ino, state.st_mtime_ns)
        if stamp != self._stamp:
            self._pointer = json.loads((self.folder / POINTER).read_text(encoding="utf-8"))
            self._stamp = stamp
        return self._pointer


def _save(path: Path, values: np.ndarray) -> None:
    """Write an array, with a clear error for a full disk (NumPy's only states how many values were written)."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    path.write_bytes(buffer.getvalue())
