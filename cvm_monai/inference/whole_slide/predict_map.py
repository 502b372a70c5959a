"""Run the network over a slide's tissue: threads read tiles ahead, and rows of tiles are blended into a map on disk."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from functools import partial

import numpy as np
import torch

from cvm_monai.data.stain import stain_change
from cvm_monai.inference.whole_slide.blending import COLUMNS, Block, RowBlender, gaussian
from cvm_monai.inference.whole_slide.grid import Grid, TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile
from cvm_monai.inference.whole_slide.model import SlideModel
from cvm_monai.networks.centred_probe import shared_means
from cvm_monai.slides import SlideImage

SAMPLE = 16
"""Number of tiles, spread over the tissue, from which a slide's stains, and its features' mean, are estimated."""
Change = Callable[[np.ndarray], np.ndarray]
"""Maps the colours of pixels (..., 3) uint8."""


def tissue_tiles(tissue: TissueOnGrid, *, stride: int) -> np.ndarray:
    """Find the tiles to run, (rows, columns) bool; for a coarse output also those that its resizing reaches."""
    return tissue.tiles(margin=2 * stride if stride > 1 else 0)


def predict_map(
    model: SlideModel,
    image: SlideImage,
    tissue: TissueOnGrid,
    store: MapFile,
    *,
    stride: int,
    batch_size: int = 1,
    num_workers: int = 2,
    change: Change | None = None,
    on_tiles: Callable[[int], None] = lambda count: None,
) -> None:
    """Run the network over every tile with tissue, from where `store` ends, and blend the tiles by a Gaussian.

    The order of the sums does not depend on interruptions, so that a resumed map is identical to the bit. A network
    that subtracts an image's mean subtracts that of up to `SAMPLE` tiles spread over the slide.

    Args:
        model: the network and its settings.
        image: the slide.
        tissue: mask on the grid of the tiles.
        store: map of the grid's output shape, one channel for each foreground class.
        stride: see `SlideModel.stride`.
        batch_size: tiles per pass of the network; raising it uses a GPU better and costs its memory.
        num_workers: threads that read tiles ahead; 0 reads each tile when it is needed.
        change: colour map of the tiles.
        on_tiles: called after each batch with its number of tiles.

    Raises:
        CvmError: a part of the slide that cannot be read, or a network whose output is not finite.
    """
    grid, needed = tissue.grid, tissue_tiles(tissue, stride=stride)
    window, first = _window(model, grid, stride), len(store.bands)
    places = [[(y, x) for x in _chosen(grid, needed[row])] for row, y in enumerate(grid.rows)]
    read = partial(read_tile, image, grid, change=change)
    todo = [place for row in places[first:] for place in row]
    with (
        _slide_means(model, image, tissue, stride, change),
        closing(read_ahead(read, todo, workers=num_workers, ahead=2 * batch_size)) as tiles,
    ):
        for row in range(first, len(grid.rows)):
            if not places[row] and not store.carries:
                _skip_row(tissue, store, row, stride)
                continue
            blender = _row_blender(window, model, tissue, store, row, stride)
            for start in range(0, len(places[row]), batch_size):
                some = [next(tiles) for _ in places[row][start : start + batch_size]]
                logits = model.logits(torch.from_numpy(np.stack([pixels for _, pixels in some])))
                for ((_, x), _), z in zip(some, logits, strict=True):
                    blender.add(z, x // stride)
                on_tiles(len(some))
            blender.close()
            top, bottom = grid.band(row, stride)
            store.finish_band(bottom - top)


def _row_blender(
    window: torch.Tensor, model: SlideModel, tissue: TissueOnGrid, store: MapFile, row: int, stride: int
) -> RowBlender:
    """Build the blender of a row of tiles: it adds the sums of the row above and writes finished columns."""
    grid = tissue.grid
    top, bottom = grid.band(row, stride)

    def write(block: Block) -> None:
        _check_coverage(block.covered, tissue, (top, block.first), stride)
        if block.covered.any():
            store.write(block.first, block.values)
        if block.shared is not None:
            store.write_carry(block.first, block.shared)

    return RowBlender(
        window,
        classes=len(model.names),
        width=grid.output_shape(stride)[1],
        finished=bottom - top,
        shared=0 if row + 1 == len(grid.rows) else grid.tile[0] // stride - (bottom - top),
        above=store.carried,
        on_block=write,
    )


def _skip_row(tissue: TissueOnGrid, store: MapFile, row: int, stride: int) -> None:
    """Skip a row without tiles that no tile above reaches either."""
    top, bottom = tissue.grid.band(row, stride)
    width = tissue.grid.output_shape(stride)[1]
    for column in range(0, width, COLUMNS):
        nothing = np.zeros((bottom - top, min(COLUMNS, width - column)), bool)
        _check_coverage(nothing, tissue, (top, column), stride)
    store.finish_band(bottom - top)


def _window(model: SlideModel, grid: Grid, stride: int) -> torch.Tensor:
    """Compute the blending weights of a tile's output, on the device."""
    output = -(-grid.tile[0] // stride), -(-grid.tile[1] // stride)
    return gaussian(grid.tile, output).to(model.device)


def slide_change(
    model: SlideModel, image: SlideImage, tissue: TissueOnGrid, *, stride: int
) -> tuple[Change | None, bool]:
    """Estimate the stain normalisation of the slide from a sample of its tiles; also returns whether it failed.

    It fails where the sample has too little stained tissue; then the colours are kept.
    """
    if model.stain is None:
        return None, False
    tiles = _sample(image, tissue, stride)
    if not tiles:
        return None, False
    change = stain_change(np.concatenate(tiles), model.stain)
    return change, change is None


def _sample(image: SlideImage, tissue: TissueOnGrid, stride: int, *, change: Change | None = None) -> list[np.ndarray]:
    """Read up to `SAMPLE` tiles, spread evenly over those with tissue."""
    places = np.argwhere(tissue_tiles(tissue, stride=stride))
    if not len(places):
        return []
    chosen = places[np.unique(np.linspace(0, len(places) - 1, SAMPLE).round().astype(int))]
    grid = tissue.grid
    return [read_tile(image, grid, grid.rows[row], grid.columns[column], change) for row, column in chosen]


def _slide_means(
    model: SlideModel, image: SlideImage, tissue: TissueOnGrid, stride: int, change: Change | None
) -> AbstractContextManager[None]:
    """Let a network that subtracts an image's mean subtract that of a sample of the slide; see `shared_means`."""

    def see() -> None:
        for pixels in _sample(image, tissue, stride, change=change):
            model.logits(torch.from_numpy(pixels[None]))

    return shared_means(model.network, see)


def _chosen(grid: Grid, needed: np.ndarray) -> list[int]:
    return [column for column, use in zip(grid.columns, needed, strict=True) if use]


def _check_coverage(covered: np.ndarray, tissue: TissueOnGrid, corner: tuple[int, int], stride: int) -> None:
    """Raise an internal error if a pixel of tissue was reached by no tile."""
    (first, left), (height, width) = corner, covered.shape
    missing = tissue.rows(first, first + height, stride=stride, columns=(left, left + width)) & ~covered
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise RuntimeError(f"no tile covers the tissue at row {first + row}, column {left + column} of the map")


def read_tile(image: SlideImage, grid: Grid, row: int, column: int, change: Change | None = None) -> np.ndarray:
    """Read a tile of the slide, (h, w, 3) uint8, padded beyond the slide by repeating its border.

    Args:
        row: its first network row.
        column: its first network column.
        change: colour map, applied before padding.
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
    """Iterate over (place, `read(*place)`) in the order of the places, reading ahead in threads.

    Args:
        read: called by several threads at once.
        places: (row, column) of the tiles.
        workers: number of threads; 0 reads on demand. 2 to 8 keep a network busy.
        ahead: maximal number of waiting tiles, beside those being read.
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
