"""The network over the tissue of a slide, row of tiles by row of tiles, into a map on disk."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import numpy as np
import torch

from cvm_monai.data.stain import stain_change
from cvm_monai.inference.whole_slide.blending import RowBlender
from cvm_monai.inference.whole_slide.grid import Grid, TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile
from cvm_monai.inference.whole_slide.model import SlideModel
from cvm_monai.inference.whole_slide.reading import Change, read_ahead, read_tile
from cvm_monai.slides import SlideImage

SAMPLE = 16
"""Tiles, spread over the tissue, from which a slide's stains are estimated."""


def tissue_tiles(tissue: TissueOnGrid, *, stride: int) -> np.ndarray:
    """(rows, columns) bool: the tiles that must be run; of a coarse output also those that its resizing reaches."""
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

    The order of the sums is the same wherever it was interrupted, and so is each bit of the map.

    Args:
        model: with the network.
        image: the slide.
        tissue: on the grid of the tiles.
        store: of the grid's output shape, one channel for each foreground class.
        stride: see `SlideModel.stride`.
        batch_size: tiles for one pass of the network; raising it keeps a GPU busier and costs its memory.
        num_workers: threads that read tiles ahead; 0 reads when needed.
        change: of the tiles' colours.
        on_tiles: called with how many tiles are done, after each batch.

    Raises:
        ValueError: a place of the slide that cannot be read, or a network whose output is not finite.
    """
    grid, needed = tissue.grid, tissue_tiles(tissue, stride=stride)
    blender, first = make_blender(model, grid, stride), len(store.bands)
    if (carried := store.carried()) is not None:
        blender.restore(carried)
    places = [[(y, x) for x in _chosen(grid, needed[row])] for row, y in enumerate(grid.rows)]
    read = partial(read_tile, image, grid, change=change)
    todo = [place for row in places[first:] for place in row]
    with closing(read_ahead(read, todo, workers=num_workers, ahead=2 * batch_size)) as tiles:
        for row in range(first, len(grid.rows)):
            for start in range(0, len(places[row]), batch_size):
                some = [next(tiles) for _ in places[row][start : start + batch_size]]
                logits = model.logits(torch.from_numpy(np.stack([pixels for _, pixels in some])))
                for ((_, x), _), z in zip(some, logits, strict=True):
                    blender.add(z, x // stride)
                on_tiles(len(some))
            carried = _finish_row(blender, tissue, store, row, stride, empty=not places[row] and carried is None)


def _finish_row(
    blender: RowBlender, tissue: TissueOnGrid, store: MapFile, row: int, stride: int, *, empty: bool
) -> np.ndarray | None:
    """Write what a row of tiles finishes; what it shares with the next, None where that is nothing."""
    grid = tissue.grid
    top, bottom = grid.band(row, stride)
    width = grid.output_shape(stride)[1]
    if empty:
        _check_coverage(np.zeros((bottom - top, width), bool), tissue, top, stride)
        store.append(None, bottom - top, None)
        return None
    values, covered = blender.finish(bottom - top, width)
    _check_coverage(covered, tissue, top, stride)
    shared = 0 if row + 1 == len(grid.rows) else grid.tile[0] // stride - (bottom - top)
    carried = blender.carry(shared)
    store.append(values, bottom - top, carried)
    return carried


def make_blender(model: SlideModel, grid: Grid, stride: int) -> RowBlender:
    """The blender of a grid's rows."""
    output = -(-grid.tile[0] // stride), -(-grid.tile[1] // stride)
    width = grid.columns[-1] // stride + output[1]
    return RowBlender(classes=len(model.names), tile=grid.tile, output=output, width=width, device=model.device)


def slide_change(
    model: SlideModel, image: SlideImage, tissue: TissueOnGrid, *, stride: int
) -> tuple[Change | None, bool]:
    """What brings the slide's colours to the model's, from a sample of its tiles; and whether that failed.

    It fails where the sample shows too little stained tissue: then the colours stay.
    """
    if model.stain is None:
        return None, False
    places = np.argwhere(tissue_tiles(tissue, stride=stride))
    if not len(places):
        return None, False
    chosen = places[np.unique(np.linspace(0, len(places) - 1, SAMPLE).round().astype(int))]
    grid = tissue.grid
    tiles = [read_tile(image, grid, grid.rows[row], grid.columns[column]) for row, column in chosen]
    change = stain_change(np.concatenate(tiles), model.stain)
    return change, change is None


def _chosen(grid: Grid, needed: np.ndarray) -> list[int]:
    return [column for column, use in zip(grid.columns, needed, strict=True) if use]


def _check_coverage(covered: np.ndarray, tissue: TissueOnGrid, first: int, stride: int) -> None:
    """An error of ours, not of the user: a pixel of tissue that no tile reached."""
    missing = tissue.rows(first, first + len(covered), stride=stride) & ~covered
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise RuntimeError(f"no tile covers the tissue at row {first + row}, column {column} of the map")
