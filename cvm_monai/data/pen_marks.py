"""Random pen marks as an augmentation: tissue under a felt pen's ink, which counts as background."""

import colorsys
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from PIL import Image, ImageDraw, ImageFilter

from cvm_monai.annotations import BACKGROUND, UNLABELLED
from cvm_monai.data.augmentation import TRIES, label_classes
from cvm_monai.errors import CvmError

Item = dict[Hashable, Any]

CLICKS = 2
"""Number of background points set on a mark."""


class RandPenMarkd(Randomizable, Transform):
    """Draw one stroke of transparent ink of a random colour over an RGB image in [0, 1], and label it background.

    Pathologists mark slides with pens, and the training images rarely show every colour of ink; a network that never
    saw ink takes it for whatever it resembles. Under the stroke the points are removed and two background points are
    set, a pseudo-label is 0, and so is a mask; unlabelled stays unlabelled. A draw that would remove a class of the
    label is repeated, up to 8 draws; then the item is left unchanged. The image must not be normalised yet.

    Args:
        prob: probability of a mark; raising it teaches ink better and tissue less; 0 to 1.
        point_size: side of the square of each background point, in map pixels, odd; 1 to 7.

    Raises:
        CvmError: a tunable out of its range.
    """

    def __init__(self, *, prob: float = 0.2, point_size: int = 3) -> None:
        if not 0 <= prob <= 1:
            raise CvmError(f"prob must lie in [0, 1], got {prob!r}")
        if point_size not in (1, 3, 5, 7):
            raise CvmError(f"point_size must be 1, 3, 5 or 7, got {point_size!r}")
        self.prob, self.point_size = prob, point_size

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        if self.R.random() >= self.prob:
            return dict(item)
        grid = (int(item["label"].shape[-2]), int(item["label"].shape[-1]))
        before = label_classes(item["label"])
        for _ in range(TRIES):
            cover = self._stroke((int(item["image"].shape[-2]), int(item["image"].shape[-1])))
            covered = _on_grid(cover, grid)
            label = self._labelled(item["label"], covered)
            if before <= label_classes(label) | {BACKGROUND}:
                marked = dict(item) | {"image": self._inked(item["image"], cover), "label": label}
                return marked | _covered_maps(item, covered)
        return dict(item)

    def _stroke(self, shape: tuple[int, int]) -> np.ndarray:
        """Draw a stroke's opacity (H, W) in [0, 1]: a bent line of a random width with a soft border."""
        side = min(shape)
        centre = self.R.uniform((0, 0), shape[::-1])
        direction, bend = self.R.uniform(0, 2 * np.pi), self.R.uniform(-1, 1)
        angles = direction + bend * np.linspace(-0.5, 0.5, 9)
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * side * self.R.uniform(0.15, 0.6) / 9
        line = centre + np.cumsum(steps, axis=0) - steps.sum(axis=0) / 2
        radius = side * self.R.uniform(0.04, 0.12)
        picture = Image.new("L", shape[::-1])
        draw = ImageDraw.Draw(picture)
        draw.line([(float(x), float(y)) for x, y in line], fill=255, width=max(1, round(2 * radius)), joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 100)), dtype=np.float32) / 255

    def _inked(self, image: torch.Tensor, cover: np.ndarray) -> torch.Tensor:
        """Take light away by the ink (law of Lambert and Beer), and hide part of the tissue below it."""
        colour = colorsys.hsv_to_rgb(self.R.random(), self.R.uniform(0.5, 1), self.R.uniform(0.15, 0.9))
        strength = torch.from_numpy(cover) * float(self.R.uniform(0.6, 1.2))
        density = -torch.tensor(colour).clamp(min=0.1).log()
        hidden = torch.from_numpy(cover) * float(self.R.uniform(0, 0.8))
        tissue = image + (1 - image) * hidden
        return tissue * torch.exp(-density[:, None, None] * strength)

    def _labelled(self, label: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
        """Remove the points under the ink, and set background points on it."""
        marked = torch.where(covered, UNLABELLED, label)
        places = torch.nonzero(covered[0]).numpy()
        half = self.point_size // 2
        for row, column in places[self.R.randint(len(places), size=CLICKS)] if len(places) else ():
            square = (0, slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1))
            marked[square] = torch.where(covered[square], BACKGROUND, marked[square])
        return marked


def _on_grid(cover: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    """Return which pixels (1, h, w) of the map are covered by more than half."""
    opacity = torch.from_numpy(cover)[None, None]
    return torch.nn.functional.interpolate(opacity, size=grid, mode="area")[0] > 0.5


def _covered_maps(item: Mapping[Hashable, Any], covered: torch.Tensor) -> Item:
    """Return mask and pseudo-label with background under the ink, where they are known."""
    maps: Item = {}
    if "mask" in item:
        known = covered & (item["mask"] != UNLABELLED)
        maps["mask"] = torch.where(known, BACKGROUND, item["mask"])
    if "pseudo_label" in item:
        values = item["pseudo_label"]
        background = torch.zeros_like(values)
        if len(values) > 1:
            background[0] = 1
        maps["pseudo_label"] = torch.where(covered & (values >= 0), background, values)
    return maps
