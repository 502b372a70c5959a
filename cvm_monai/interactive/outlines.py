"""Outline a prediction once for all files and documents, and draw it as a label image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from cvm_monai.annotations import RegionResult, regions_from_rows
from cvm_monai.errors import CvmError
from cvm_monai.interactive.prediction import Prediction
from cvm_monai.interactive.window import Window

MAX_LABEL_PIXELS = 2**27
"""Limit of the pixels of a label image; larger regions are given as polygons."""


@dataclass(frozen=True)
class Outlines:
    """Outlines of a prediction, computed once for all files and documents.

    Attributes:
        prediction: whose regions are outlined.
        simplify: tolerance in segmented pixels; raising it leaves fewer vertices; 0 keeps the pixels' outline, 0 to 4.
        min_area: smaller regions are left out, in square level-0 pixels; from 0.
    """

    prediction: Prediction
    simplify: float = 1.0
    min_area: float = 0.0

    @cached_property
    def regions(self) -> tuple[RegionResult, ...]:
        """Compute the connected regions in level-0 pixels, with holes; areas in square pixels where um/px are unknown.

        Raises:
            CvmError: a tunable out of its range.
        """
        found = self.prediction
        window, scale, mpp = found.window, found.scale, found.mpp or 1.0
        return tuple(
            regions_from_rows(
                found.strips(),
                mpp=mpp,
                scale=scale,
                origin=(window.y, window.x),
                simplify_um=self.simplify * min(scale) * mpp,
                min_area_um2=self.min_area * mpp**2,
            )
        )


def label_image(found: Prediction) -> np.ndarray:
    """Compute class numbers (height, width) uint8 of the window at level 0; probabilities are resized, not labels.

    Raises:
        CvmError: a window that is too large for a label image.
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


def whole_label_image(found: Prediction) -> np.ndarray:
    """Compute class numbers (height, width) uint8 of the whole image at level 0, background outside the window.

    Raises:
        CvmError: an image that is too large for a label image.
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
        CvmError: it is too large.
    """
    width, height = window.width, window.height
    if width * height > MAX_LABEL_PIXELS:
        raise CvmError(
            f"a label image of {width} x {height} px is too large: ask for polygons (.geojson, .xml or .json), "
            "or for a smaller region"
        )
