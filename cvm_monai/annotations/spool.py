"""Corners of regions in a temporary file, sorted by region: what is in memory does not know how many there are."""

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
"""A turn of an outline: the region that it belongs to, its vertex, the directions in and out, the region's label, and
whether its label is also across the corner."""

GROUP = 1 << 17
"""Corners looked at together, except of a region that has more: some 100 bytes of memory for each."""

IN_MEMORY = 1 << 22
"""Bytes from which corners are kept in a file: small maps need none."""


class CornerSpool:
    """Corners in the order in which they come; once sorted, groups of whole regions in the order of these.

    The files have no name: they are gone when this is closed, and where the process is killed. They need room for 20
    bytes of each corner, twice while they are sorted.

    Args:
        folder: of the temporary files; None: the system's.
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
        """Number the parts anew and bring the corners of each group of regions together, in the order they came in.

        A group is the regions that begin within `GROUP` corners, counted from region to region: but for a last one
        that is larger it has twice as many at most.

        Args:
            region: (parts,) the region of each part, from 0.
            regions: how many there are.

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
        """The corners of some consecutive regions at a time, as arrays of `RECORD`."""
        self._file.seek(0)
        for count in np.diff(self._ends, prepend=0).tolist():
            yield np.frombuffer(self._file.read(count * RECORD.itemsize), RECORD)

    def close(self) -> None:
        """Remove the files."""
        _remove(self._file)

    def _pieces(self) -> Iterator[np.ndarray]:
        """All corners, some at a time, as arrays that may be changed."""
        self._file.seek(0)
        while data := self._file.read(GROUP * RECORD.itemsize):
            yield np.frombuffer(bytearray(data), RECORD)

    def _temporary(self) -> IO[bytes]:
        return nameless_file(self._folder, in_memory=IN_MEMORY)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Errors of the file system get the folder: the files have no name."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, place_of_temporary_files(self._folder)) from None


def _remove(file: IO[bytes]) -> None:
    """Close a file, and with it what could not be written: it is not needed any more."""
    with suppress(OSError):
        file.close()


def _distribute(corners: np.ndarray, group: np.ndarray, next_place: np.ndarray, file: IO[bytes]) -> None:
    """Write corners behind those of their group; `next_place` of each group, in corners from the beginning, goes on."""
    order = np.argsort(group, kind="stable")
    corners, group = corners[order], group[order]
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(group)], strict=True):
        file.seek(int(next_place[group[begin]]) * RECORD.itemsize)
        file.write(corners[begin:end].tobytes())
        next_place[group[begin]] += end - begin
