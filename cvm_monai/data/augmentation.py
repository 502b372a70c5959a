"""Random affine augmentation (rotation, zoom, shear), which `full` adds to flips, quarter turns and jitter."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch.nn import functional

from cvm_monai.annotations import UNLABELLED
from cvm_monai.data.transforms import FILL
from cvm_monai.errors import CvmError

Item = dict[Hashable, Any]

TRIES = 8
"""Number of draws before an item is left unchanged."""


class RandAffineMapsd(Randomizable, Transform):
    """Rotate, zoom and shear image and maps alike, about the centre; their grids may have different strides.

    The image is sampled bilinearly and mirrored beyond its border; maps take the nearest pixel, and 255 or -1 beyond
    theirs (`FILL`). A draw that would lose a class of the label is repeated, up to 8 draws; then the item is left
    unchanged.

    Args:
        prob: probability of a change; 0 to 1.
        degrees: angles are uniform in [-degrees, degrees]; after random quarter turns 45 covers every angle; 0 to 180.
        zoom: sizes are multiplied or divided by up to 1 + zoom; raising it makes the network less dependent on
            magnification; 0 to 1.
        shear: largest shear, pixels sideways per pixel down; 0 to 0.5.

    Raises:
        CvmError: a tunable out of its range.
    """

    def __init__(self, *, prob: float = 0.8, degrees: float = 45.0, zoom: float = 0.25, shear: float = 0.1) -> None:
        self.prob, self.degrees, self.zoom, self.shear = prob, degrees, zoom, shear
        for name, high in (("prob", 1), ("degrees", 180), ("zoom", 1), ("shear", 0.5)):
            if not 0 <= getattr(self, name) <= high:
                raise CvmError(f"{name} must lie in [0, {high}], got {getattr(self, name)!r}")

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        if self.R.random() >= self.prob:
            return dict(item)
        before = label_classes(item["label"])
        for _ in range(TRIES):
            theta = self._draw(item["image"].shape[-2:])
            label = _turned_map(item["label"], theta, fill=FILL["label"])
            if label_classes(label) == before:
                turned = dict(item) | {"image": _sample(item["image"], theta, "bilinear", "reflection")}
                turned |= {key: _turned_map(item[key], theta, fill=FILL[key]) for key in FILL if key in item}
                return turned
        return dict(item)

    def _draw(self, shape: tuple[int, int]) -> torch.Tensor:
        """Draw the (2, 3) affine matrix from new to old coordinates, (x, y) in [-1, 1] over the whole extent."""
        angle = math.radians(self.R.uniform(-self.degrees, self.degrees))
        zoom = (1 + self.zoom) ** self.R.uniform(-1, 1)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = turn @ np.array([[1.0, self.R.uniform(-self.shear, self.shear)], [0.0, 1.0]]) / zoom
        half = np.array([shape[1], shape[0]]) / 2
        return torch.from_numpy(np.hstack([matrix * half / half[:, None], np.zeros((2, 1))])).float()


def label_classes(label: torch.Tensor) -> set[int]:
    """Return the classes of a label map, without unlabelled."""
    return set(label.unique().tolist()) - {UNLABELLED}


def _turned_map(values: torch.Tensor, theta: torch.Tensor, *, fill: float) -> torch.Tensor:
    """Transform a map by nearest pixel, with `fill` beyond its border."""
    return (_sample(values.float() - fill, theta, "nearest", "zeros") + fill).to(values.dtype)


def _sample(values: torch.Tensor, theta: torch.Tensor, mode: str, beyond: str) -> torch.Tensor:
    grid = functional.affine_grid(theta[None], [1, *values.shape], align_corners=False)
    return functional.grid_sample(values[None], grid, mode=mode, padding_mode=beyond, align_corners=False)[0]
