"""The decoded tiles used last, in bounded memory."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np


class ByteCache:
    """Keeps the arrays used last, up to a number of bytes in all; of a larger array it keeps that one alone.

    Args:
        limit: bytes; raising it saves decoding where reads overlap, up to the tiles of one row of reads.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable) -> np.ndarray | None:
        """The array, or None where it is not held."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Hold an array, and let go of those not used for longest."""
        with self._lock:
            if key in self._arrays:
                return
            self._arrays[key] = array
            self.held += array.nbytes
            while self.held > self.limit and len(self._arrays) > 1:
                _, oldest = self._arrays.popitem(last=False)
                self.held -= oldest.nbytes
