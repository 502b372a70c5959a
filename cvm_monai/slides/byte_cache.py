"""A least-recently-used cache of decoded tiles, bounded in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np


class ByteCache:
    """Keeps the most recently used arrays, up to a total number of bytes; a larger array is kept alone.

    Args:
        limit: bytes; raising it saves decoding where reads overlap, until the tiles of one row of reads fit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return the array, or None where it is not cached."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Add an array, and drop the least recently used ones."""
        with self._lock:
            if key in self._arrays:
                return
            self._arrays[key] = array
            self.held += array.nbytes
            while self.held > self.limit and len(self._arrays) > 1:
                _, oldest = self._arrays.popitem(last=False)
                self.held -= oldest.nbytes
