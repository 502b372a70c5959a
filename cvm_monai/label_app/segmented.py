"""A segmentation of a part of an image, and the pixels it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cvm_monai.annotations import RegionResult, regions_from_rows
from cvm_monai.errors import CvmError
from cvm_monai.label_app.window import Window
from cvm_monai.slides import SlideImage

STRIP = 2**24
"""Pixels of the strips of rows in which outlines are followed."""

MAX_LABEL_PIXELS = 2**27
"""Largest label image that is made; larger regions are given as polygons."""


@dataclass(frozen=True)
class Segmented:
    """Labels of a window.

    Attributes:
        labels: (h, w) uint8 class numbers, at the size that was segmented.
        probability: (h, w) of the target, float32 or uint8 with 255 as 1; None for more than two classes.
        window: where they lie.
        image_shape: (height, width) of the whole image.
        names: of the classes by number.
        mpp: micrometres per level-0 pixel; None where nobody says.
    """

    labels: np.ndarray
    probability: np.ndarray | None
    window: Window
    image_shape: tuple[int, int]
    names: tuple[str, ...]
    mpp: float | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """(y, x) level-0 pixels of one of its pixels."""
        return self.window.height / self.labels.shape[0], self.window.width / self.labels.shape[1]

    def strips(self) -> Iterator[tuple[int, np.ndarray] | tuple[int, np.ndarray, np.ndarray]]:
        """(first row, labels[, probability]) of strips of rows, from top to bottom."""
        rows = max(1, STRIP // self.labels.shape[1])
        for first in range(0, len(self.labels), rows):
            part = slice(first, first + rows)
            if self.probability is None:
                yield first, self.labels[part]
            else:
                yield first, self.labels[part], self.probability[part]


def regions(found: Segmented, *, simplify: float = 1.0, min_area: float = 0.0) -> tuple[RegionResult, ...]:
    """The connected regions in level-0 pixels, with holes; areas are in square pixels where the um/px are unknown.

    Args:
        simplify: tolerance in segmented pixels; raising it leaves fewer vertices; 0 keeps the pixels' outline, 0 to 4.
        min_area: smaller regions are left out, in square level-0 pixels; from 0.

    Raises:
        CvmError: a tunable out of its range.
    """
    window, scale, mpp = found.window, found.scale, found.mpp or 1.0
    return tuple(
        regions_from_rows(
            found.strips(),
            mpp=mpp,
            scale=scale,
            origin=(window.y, window.x),
            simplify_um=simplify * min(scale) * mpp,
            min_area_um2=min_area * mpp**2,
        )
    )


def label_image(found: Segmented) -> np.ndarray:
    """(height, width) uint8 class numbers of the window at level 0; probabilities are resized, not labels.

    Raises:
        CvmError: a window that is too large for one.
    """
    check_label_size(found.window)
    width, height = found.window.width, found.window.height
    if found.labels.shape == (height, width):
        return found.labels
    if found.probability is None:
        return np.array(Image.fromarray(found.labels).resize((width, height), Image.Resampling.NEAREST))
    resized = Image.fromarray(found.probability).resize((width, height), Image.Resampling.BILINEAR)
    half = 127 if found.probability.dtype == np.uint8 else 0.5
    return (np.asarray(resized) > half).astype(np.uint8)


def whole_label_image(found: Segmented) -> np.ndarray:
    """(height, width) uint8 class numbers of the whole image at level 0, background beside the window.

    Raises:
        CvmError: an image that is too large for one.
    """
    height, width = found.image_shape
    window = found.window
    check_label_size(Window(0, 0, width, height))
    labels = np.zeros((height, width), np.uint8)
    labels[window.y : window.y + window.height, window.x : window.x + window.width] = label_image(found)
    return labels


def check_label_size(window: Window) -> None:
    """Refuse a label image of a window that is too large for one.

    Raises:
        CvmError: what to ask for instead.
    """
    width, height = window.width, window.height
    if width * height > MAX_LABEL_PIXELS:
        raise CvmError(
            f"a label image of {width} x {height} px is too large: ask for polygons (result_extension .geojson, "
            ".xml or .json), or for a smaller region by location and size"
        )


def read_pixels(image: SlideImage, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8: a window of an image at a working (height, width)."""
    scale = (window.height / shape[0], window.width / shape[1])
    return image.read_scaled((window.x, window.y), shape=shape, scale=scale)
