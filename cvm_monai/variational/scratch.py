"""Scratch arrays reused by a thread's next step: allocating fresh memory can cost more than the arithmetic."""

import threading

import numpy as np

_KEPT = threading.local()


def scratch(count: int, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Return `count` uninitialised arrays, valid until this thread asks for another count, shape or type."""
    if getattr(_KEPT, "key", None) != (count, shape, dtype):
        _KEPT.key, _KEPT.arrays = (count, shape, dtype), tuple(np.empty(shape, dtype) for _ in range(count))
    arrays: tuple[np.ndarray, ...] = _KEPT.arrays
    return arrays
