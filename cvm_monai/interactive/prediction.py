"""Segment a region by the trained network, at once or tile by tile in bounded memory, and compute its entropy."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.inference import predict_classes
from cvm_monai.inference.whole_slide import Grid, SlideModel, TissueOnGrid, make_grid
from cvm_monai.inference.whole_slide.map_file import MapFile, labels, strips
from cvm_monai.inference.whole_slide.predict_map import predict_map, slide_change, tissue_tiles
from cvm_monai.interactive.current import ActiveModel
from cvm_monai.interactive.window import Window, read_pixels, working_shape
from cvm_monai.slides import SlideImage, tissue_mask

EXACT = 2**24
"""Largest region, in level-0 pixels, that is segmented like an image by the bundle, with probabilities at level 0."""

MOST = 2**24
"""Largest region, in working pixels, that is segmented at once; a larger one is segmented tile by tile."""

UNTRAINED = "there is no trained network yet: train one (POST /train/cvm), or give --conf model RUN"

GLANCE = 512
"""Longest side in px of an image that is ranked by its entropy."""

STRIP = 2**24
"""Pixels per strip of rows in which outlines are computed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Labels and probability of a window.

    Attributes:
        labels: (h, w) uint8 class numbers, at the size that was segmented.
        probability: (h, w) of the target, float32 or uint8 with 255 as 1; None for more than two classes.
        window: their place in the image.
        image_shape: (height, width) of the whole image.
        names: class names by number.
        mpp: micrometres per level-0 pixel; None where unknown.
    """

    labels: np.ndarray
    probability: np.ndarray | None
    window: Window
    image_shape: tuple[int, int]
    names: tuple[str, ...]
    mpp: float | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 pixels per pixel of the labels, (y, x)."""
        return self.window.height / self.labels.shape[0], self.window.width / self.labels.shape[1]

    def strips(self) -> Iterator[tuple[int, np.ndarray] | tuple[int, np.ndarray, np.ndarray]]:
        """Iterate over strips of rows (first row, labels[, probability]), from top to bottom."""
        rows = max(1, STRIP // self.labels.shape[1])
        for first in range(0, len(self.labels), rows):
            part = slice(first, first + rows)
            if self.probability is None:
                yield first, self.labels[part]
            else:
                yield first, self.labels[part], self.probability[part]


def segment_window(
    image: SlideImage,
    window: Window,
    *,
    current: ActiveModel,
    factor: float,
    names: tuple[str, ...],
    folder: Path,
    window_px: int = 1024,
) -> Prediction:
    """Predict the most probable class of each pixel as the bundle's inference does; see `segment_large`.

    Args:
        factor: working px of one level-0 pixel.
        names: of the classes by number.
        folder: for the files of a large region, which must stay while the result is used.
        window_px: see `WindowInferer`.

    Raises:
        CvmError: an untrained network, or one of other classes.
    """
    if not current.trained:
        raise CvmError(UNTRAINED)
    if current.knobs["classes"] != len(names):
        raise CvmError(
            f"the network distinguishes {current.knobs['classes']} classes, the class map has {len(names)}: train "
            "again, or give the class map of its training (--conf classes)"
        )
    working = working_shape(window, factor=factor)
    if working[0] * working[1] > MOST:
        return segment_large(
            image, window, current=current, factor=factor, names=names, folder=folder, window_px=window_px
        )
    exact = window.width * window.height <= EXACT
    shape = (window.height, window.width) if exact else working
    probabilities = probabilities_of(
        current, read_pixels(image, window, shape), scale=factor if exact else 1.0, window_px=window_px
    )
    two = len(probabilities) == 2
    labels = (probabilities[1] > 0.5) if two else probabilities.argmax(axis=0)
    return Prediction(labels.astype(np.uint8), probabilities[1] if two else None, window, image.shape, names)


def entropy_map(image: SlideImage, *, current: ActiveModel, factor: float) -> np.ndarray:
    """Compute the entropy (h, w) of the prediction over a whole image, in bits, at a longer side of at most 512 px.

    It is 0 for a certain prediction and log2(classes) for a uniform one.
    """
    whole = Window(0, 0, image.shape[1], image.shape[0])
    shape = working_shape(whole, factor=factor, longest=GLANCE)
    probabilities = probabilities_of(current, read_pixels(image, whole, shape), scale=1.0, window_px=1024)
    return entropy(probabilities)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute the entropy (H, W) in bits of probabilities (C, H, W); 0 log 0 = 0."""
    p = np.clip(probabilities, np.finfo(np.float32).tiny, 1.0)
    return np.asarray(-(probabilities * np.log2(p)).sum(axis=0))


def probabilities_of(current: ActiveModel, pixels: np.ndarray, *, scale: float, window_px: int) -> np.ndarray:
    """Compute probabilities (C, H, W) of pixels (H, W, 3)."""
    knobs = current.knobs
    return predict_classes(
        current.network,
        pixels,
        scale=scale,
        stain=current.stain,
        window=window_px,
        image_mean=knobs["image_mean"],
        image_std=knobs["image_std"],
    )


class Cropped(SlideImage):
    """A window of an opened image as an image; whoever opened the image closes it."""

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
    current: ActiveModel,
    factor: float,
    names: tuple[str, ...],
    folder: Path,
    window_px: int = 1024,
) -> Prediction:
    """Predict the most probable class at the network's um/px as `cvm-monai predict` does; background on glass.

    Memory is that of a few tiles and strips: labels and probabilities are memory-mapped files in `folder`, one byte a
    pixel each, and the probabilities are rounded to 1/255.

    Args:
        factor: working px of one level-0 pixel.
        names: of the classes by number.
        folder: an existing one for the files, which must stay while the result is used.
        window_px: side of the tiles, see `WindowInferer`.

    Raises:
        CvmError: a part of the image that cannot be read, or a network whose output is not finite.
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
    return Prediction(found, probability if len(names) == 2 else None, window, image.shape, names)


def _model(current: ActiveModel, names: tuple[str, ...]) -> SlideModel:
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
