"""Segmentation of a region by the trained network alone, and how sure it is."""

from pathlib import Path

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.inference import predict_classes
from cvm_monai.label_app.current import Current
from cvm_monai.label_app.large import segment_large
from cvm_monai.label_app.segmented import Segmented, read_pixels
from cvm_monai.label_app.window import Window, working_shape
from cvm_monai.slides import SlideImage

EXACT = 2**24
"""Level-0 pixels of a region that is segmented as the bundle segments an image, probabilities at level 0."""

MOST = 2**24
"""Working pixels of a region that is segmented at once; a larger one is segmented tile by tile."""

UNTRAINED = "there is no trained network yet: train one (POST /train/cvm), or give --conf model OUTPUT_DIR"

GLANCE = 512
"""Longest side in px at which an image is looked at to rank it."""


def segment_window(
    image: SlideImage,
    window: Window,
    *,
    current: Current,
    factor: float,
    names: tuple[str, ...],
    folder: Path,
    window_px: int = 1024,
) -> Segmented:
    """The likeliest class of each pixel, as the bundle's inference gives it for the same pixels; see `segment_large`.

    Args:
        factor: working px of one level-0 pixel.
        names: of the classes by number.
        folder: for the files of a large region, which must stay while the result is used.
        window_px: see `WindowInferer`.

    Raises:
        CvmError: a network without training, or of other classes.
    """
    if not current.trained:
        raise CvmError(UNTRAINED)
    if current.knobs["classes"] != len(names):
        raise CvmError(
            f"the network tells {current.knobs['classes']} classes apart, the class map has {len(names)}: train again, "
            "or give the class map of its training (--conf classes)"
        )
    working = working_shape(window, factor=factor)
    if working[0] * working[1] > MOST:
        return segment_large(
            image, window, current=current, factor=factor, names=names, folder=folder, window_px=window_px
        )
    exact = window.width * window.height <= EXACT
    shape = (window.height, window.width) if exact else working
    probabilities = _probabilities(
        current, read_pixels(image, window, shape), scale=factor if exact else 1.0, window_px=window_px
    )
    two = len(probabilities) == 2
    labels = (probabilities[1] > 0.5) if two else probabilities.argmax(axis=0)
    return Segmented(labels.astype(np.uint8), probabilities[1] if two else None, window, image.shape, names)


def entropy_map(image: SlideImage, *, current: Current, factor: float) -> np.ndarray:
    """(h, w) entropy of the network's prediction over a whole image, in bits, at most 512 px of longer side.

    0 where the network is sure everywhere, log2(classes) where it knows nothing.
    """
    whole = Window(0, 0, image.shape[1], image.shape[0])
    shape = working_shape(whole, factor=factor, longest=GLANCE)
    probabilities = _probabilities(current, read_pixels(image, whole, shape), scale=1.0, window_px=1024)
    return entropy(probabilities)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """(H, W) bits of (C, H, W) probabilities; 0 log 0 = 0."""
    p = np.clip(probabilities, np.finfo(np.float32).tiny, 1.0)
    return np.asarray(-(probabilities * np.log2(p)).sum(axis=0))


def _probabilities(current: Current, pixels: np.ndarray, *, scale: float, window_px: int) -> np.ndarray:
    """(C, H, W) of (H, W, 3) pixels."""
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
