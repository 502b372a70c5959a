"""Arrays that a thread's next step takes again: fresh memory, page by page, can cost more than the arithmetic."""

import threading

import numpy as np

_KEPT = threading.local()


def scratch(count: int, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """`count` arrays with unknown content, which stay valid until this thread asks for another kind."""
    if getattr(_KEPT, "key", None) != (count, shape, dtype):
        _KEPT.key, _KEPT.arrays = (count, shape, dtype), tuple(np.empty(shape, dtype) for _ in range(count))
    arrays: tuple[np.ndarray, ...] = _KEPT.arrays
    return arrays
