"""The pseudo-labels of all training images on disk, renewed as a whole and swapped in atomically."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

POINTER = "current.json"


class PseudoLabelStore:
    """Pseudo-labels by case id below one folder; safe to read from loader workers while a renewal is written.

    Each renewal is a folder of `.npy` files of its own; `current.json`, replaced in one step, names the one in force
    and the file of each case. A reader sees the old renewal or the new one, never a mixture.

    Args:
        folder: created when the first renewal is published.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._stamp: tuple[int, int] | None = None
        self._pointer: dict = {}

    def publish(self, labels: Mapping[str, np.ndarray]) -> int:
        """Make `labels` the renewal in force; returns its number, from 1.

        Case id -> float32, (H, W) in [0, 1] or, of more than two classes, (C, H, W), -1 where nothing is known.
        """
        version = self.begin()
        self.commit(version, self.write(labels, version=version))
        return version

    def begin(self) -> int:
        """Make room for the next renewal; returns its number. In several processes the first one does so."""
        version = self.version + 1
        folder = self._renewal(version)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return version

    def write(self, labels: Mapping[str, np.ndarray], *, version: int, writer: int = 0) -> dict[str, str]:
        """Store some labels of a renewal that is not in force yet; returns the file of each case.

        Several processes may write at once, each as another `writer`.
        """
        folder = self._renewal(version)
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for index, (case_id, label) in enumerate(labels.items()):
            files[case_id] = f"{folder.name}/{writer}-{index:06d}.npy"
            np.save(self.folder / files[case_id], np.asarray(label, dtype=np.float32))
        return files

    def commit(self, version: int, files: Mapping[str, str]) -> None:
        """Put a renewal in force: all files that `write` returned, of all writers."""
        self._replace_pointer({"version": version, "files": dict(files)})
        for old in self.folder.glob("[0-9]*"):
            if old.is_dir() and int(old.name) < version - 1:  # the one before stays for readers that hold it
                shutil.rmtree(old, ignore_errors=True)

    def wait_for(self, version: int, *, seconds: float = 90.0) -> None:
        """Return when this process sees a renewal that another one put in force.

        Network file systems show a file that was replaced after some seconds only, up to a minute.

        Raises:
            ValueError: it is not seen in time: the processes do not share the folder.
        """
        end = time.monotonic() + seconds
        while self.version != version:
            if time.monotonic() > end:
                raise ValueError(
                    f"this process does not see the pseudo-labels that the first one wrote into {self.folder}: "
                    "put --output_dir on a file system that all machines of the training share"
                )
            time.sleep(0.1)

    def get(self, case_id: str) -> np.ndarray | None:
        """The case's pseudo-label as it was published, or None where it has none.

        Raises:
            FileNotFoundError: the renewal in force has lost the case's file.
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
                    raise  # else two renewals passed since the pointer was read, and took the file with them

    @property
    def version(self) -> int:
        """Number of the renewal in force; 0 before the first."""
        return int(self._current().get("version", 0))

    def clear(self) -> None:
        """Forget every pseudo-label: a new training starts on points alone."""
        if self.folder.is_dir():
            self._replace_pointer({"version": 0, "files": {}})
            for old in self.folder.glob("[0-9]*"):
                shutil.rmtree(old, ignore_errors=True)

    def _renewal(self, version: int) -> Path:
        return self.folder / f"{version:04d}"

    def _replace_pointer(self, pointer: dict) -> None:
        aside = self.folder / f".{POINTER}.{os.getpid()}"
        aside.write_text(json.dumps(pointer), encoding="utf-8")
        os.replace(aside, self.folder / POINTER)
        self._stamp = None

    def _current(self) -> dict:
        """The pointer's content, read again only when the file is another one."""
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
