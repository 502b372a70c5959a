"""A region too large for one pass of the network: tile by tile over its tissue, as whole slides, in bounded memory."""

import logging
from pathlib import Path

import numpy as np

from cvm_monai.inference.whole_slide import Grid, SlideModel, TissueOnGrid, make_grid
from cvm_monai.inference.whole_slide.map_file import MapFile, labels, strips
from cvm_monai.inference.whole_slide.predict_map import predict_map, slide_change, tissue_tiles
from cvm_monai.label_app.current import Current
from cvm_monai.label_app.segmented import Segmented
from cvm_monai.label_app.window import Window
from cvm_monai.slides import SlideImage, tissue_mask

logger = logging.getLogger(__name__)


class Cropped(SlideImage):
    """A window of an opened image as an image of its own; the image stays the opener's to close."""

    def __init__(self, image: SlideImage, window: Window) -> None:
        self.whole, self.window = image, window
        self.path, self.mpp, self.shape = image.path, image.mpp, (window.height, window.width)

    def read_scaled(
        self, origin: tuple[float, float], *, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> np.ndarray:
        x, y = origin
        return self.whole.read_scaled((x + self.window.x, y + self.window.y), shape=shape, scale=scale)


def segment_large(
    image: SlideImage,
    window: Window,
    *,
    current: Current,
    factor: float,
    names: tuple[str, ...],
    folder: Path,
    window_px: int = 1024,
) -> Segmented:
    """The likeliest class of each pixel at the network's um/px, as `cvm-monai predict` finds it; background on glass.

    Memory is that of a few tiles and strips: labels and probabilities are memory-mapped files in `folder`, one byte a
    pixel each, and the probabilities are rounded to 1/255.

    Args:
        factor: working px of one level-0 pixel.
        names: of the classes by number.
        folder: an existing one for the files, which must stay while the result is used.
        window_px: side of the tiles, see `WindowInferer`.

    Raises:
        CvmError: a place that cannot be read, or a network whose output is not finite.
    """
    crop = Cropped(image, window)
    model = _model(current, names)
    grid, stride = make_grid(crop.shape, scale=1 / factor, window=window_px), model.stride()
    tissue = TissueOnGrid(tissue_mask(crop), grid)
    store = MapFile(folder / "map", _map_shape(grid, stride, names), {})
    count = int(tissue_tiles(tissue, stride=stride).sum())
    logger.info("%s: %d x %d px in %d tiles", image.path.name, grid.shape[1], grid.shape[0], count)
    change, _ = slide_change(model, crop, tissue, stride=stride)
    predict_map(model, crop, tissue, store, stride=stride, change=change)
    found, probability = (
        np.memmap(folder / name, np.uint8, mode="w+", shape=grid.shape) for name in ("labels.u8", "probability.u8")
    )
    for first, values in strips(store, tissue, stride=stride):
        rows = slice(first, first + len(values))
        found[rows], probability[rows] = labels(values)
    return Segmented(found, probability if len(names) == 2 else None, window, image.shape, names)


def _model(current: Current, names: tuple[str, ...]) -> SlideModel:
    knobs = current.knobs
    device = next((parameter.device for parameter in current.network.parameters()), "cpu")
    return SlideModel(
        current.network,
        names=names,
        stain=current.stain,
        image_mean=knobs["image_mean"],
        image_std=knobs["image_std"],
        device=device,
    )


def _map_shape(grid: Grid, stride: int, names: tuple[str, ...]) -> tuple[int, int, int]:
    height, width = grid.output_shape(stride)
    return height, len(names) - 1, width
