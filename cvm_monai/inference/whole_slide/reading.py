"""Tiles read ahead by threads, in their order, few at a time."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cvm_monai.inference.whole_slide.grid import Grid
from cvm_monai.slides import SlideImage

Change = Callable[[np.ndarray], np.ndarray]


def read_tile(image: SlideImage, grid: Grid, row: int, column: int, change: Change | None = None) -> np.ndarray:
    """A tile of the slide, (h, w, 3) uint8, what lies beyond the slide repeated from its border.

    Args:
        row: its first network row.
        column: its first network column.
        change: of its colours, before the border is repeated.
    """
    shape = min(grid.tile[0], grid.shape[0] - row), min(grid.tile[1], grid.shape[1] - column)
    origin = (column * grid.scale, row * grid.scale)
    pixels = image.read_scaled(origin, shape=shape, scale=(grid.scale, grid.scale))
    if change is not None:
        pixels = change(pixels)
    if shape == grid.tile:
        return pixels
    margin = [(0, side - length) for side, length in zip(grid.tile, shape, strict=True)]
    return np.pad(pixels, [*margin, (0, 0)], mode="edge")


def read_ahead(
    read: Callable[[int, int], np.ndarray], places: Sequence[tuple[int, int]], *, workers: int, ahead: int
) -> Generator[tuple[tuple[int, int], np.ndarray], None, None]:
    """(place, `read(*place)`) in the order of the places.

    Args:
        read: called by several threads at once.
        places: (row, column) of the tiles.
        workers: threads; 0 reads when asked. 2 to 8 keep a network busy.
        ahead: tiles that wait at most, beside those in the threads' hands.
    """
    if workers == 0:
        yield from ((place, read(*place)) for place in places)
        return
    waiting: deque[tuple[tuple[int, int], Future[np.ndarray]]] = deque()
    remaining = iter(places)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
    try:
        for place in remaining:
            waiting.append((place, pool.submit(read, *place)))
            if len(waiting) >= workers + ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
