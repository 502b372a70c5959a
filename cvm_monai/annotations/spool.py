"""Spool the corners of regions to temporary files, sorted by region, with memory independent of their number."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from cvm_monai.files import nameless_file, place_of_temporary_files

RECORD = np.dtype(
    [
        ("part", "<i8"),
        ("row", "<i4"),
        ("column", "<i4"),
        ("into", "u1"),
        ("out", "u1"),
        ("label", "u1"),
        ("touches", "?"),
    ]
)
"""A turn of an outline: its region, its vertex, the directions in and out, the region's label, and whether the pixel
diagonally across the corner has the same label."""

GROUP = 1 << 17
"""Corners processed together, unless a region has more: about 100 bytes of memory for each."""

IN_MEMORY = 1 << 22
"""Bytes from which corners are kept in a file instead of memory."""


class CornerSpool:
    """Corners in the order in which they were appended; after `sort`, in groups of whole regions, in region order.

    The files are unnamed: they vanish when this is closed or the process is killed. They take 20 bytes for each corner,
    twice that during the sort.

    Args:
        folder: folder of the temporary files; None: the system's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file, self._ends = self._temporary(), np.zeros(0, np.int64)

    def append(self, corners: np.ndarray) -> None:
        """Add some corners, an array of `RECORD`.

        Raises:
            OSError: there is no room.
        """
        with self._written():
            self._file.write(corners.tobytes())

    def sort(self, region: np.ndarray, regions: int) -> None:
        """Renumber the parts and gather the corners of each group of regions, in the order in which they were appended.

        A group holds the regions that begin within the same `GROUP` corners, counted over the regions in order: at most
        twice as many corners, unless its last region is larger.

        Args:
            region: (parts,) the region of each part, from 0.
            regions: number of regions.

        Raises:
            OSError: there is no room.
        """
        counts = np.zeros(regions, np.int64)
        with self._written():
            self._file.flush()
        for some in self._pieces():
            np.add.at(counts, region[some["part"]], 1)
        group = (np.cumsum(counts) - counts) // GROUP
        group = np.cumsum(np.diff(group, prepend=0) > 0)  # none is empty
        sizes = np.bincount(group, weights=counts).astype(np.int64)
        self._ends = np.cumsum(sizes)
        next_place, sorted_file = self._ends - sizes, self._temporary()
        with ExitStack() as stack, self._written():
            stack.callback(_remove, sorted_file)
            for some in self._pieces():
                some["part"] = region[some["part"]]
                _distribute(some, group[some["part"]], next_place, sorted_file)
            sorted_file.flush()
            stack.pop_all()
        _remove(self._file)
        self._file = sorted_file

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the corners of a group of consecutive regions at a time, as arrays of `RECORD`."""
        self._file.seek(0)
        for count in np.diff(self._ends, prepend=0).tolist():
            yield np.frombuffer(self._file.read(count * RECORD.itemsize), RECORD)

    def close(self) -> None:
        """Remove the files."""
        _remove(self._file)

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yield all corners in pieces, as arrays that may be modified."""
        self._file.seek(0)
        while data := self._file.read(GROUP * RECORD.itemsize):
            yield np.frombuffer(bytearray(data), RECORD)

    def _temporary(self) -> IO[bytes]:
        return nameless_file(self._folder, in_memory=IN_MEMORY)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Add the folder to errors of the file system, since the files are unnamed."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, place_of_temporary_files(self._folder)) from None


def _remove(file: IO[bytes]) -> None:
    """Close a file, ignoring errors of unwritten data: it is not needed any more."""
    with suppress(OSError):
        file.close()


def _distribute(corners: np.ndarray, group: np.ndarray, next_place: np.ndarray, file: IO[bytes]) -> None:
    """Write corners behind those of their group, and advance each group's `next_place`, a position in corners."""
    order = np.argsort(group, kind="stable")
    corners, group = corners[order], group[order]
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(group)], strict=True):
        file.seek(int(next_place[group[begin]]) * RECORD.itemsize)
        file.write(corners[begin:end].tobytes())
        next_place[group[begin]] += end - begin
