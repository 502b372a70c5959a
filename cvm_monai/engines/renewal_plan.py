"""When a training can afford to renew its pseudo-labels: a share of its computation, counted in pixels, not seconds.

Seconds would make a training depend on the machine's load, and a resumed one differ from one that was never stopped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvm_monai.errors import CvmError

TRAINED = 3.0
"""Cost of a pixel that is trained on, forwards and backwards, in forward passes."""
RENEWED = 1.3
"""Cost of a pixel whose u is renewed in forward passes: the pass, its evidence and its solve."""
SAMPLE = 8
"""Images whose sizes stand for all."""


class RenewalPlan:
    """The epochs at which renewals are paid for: renewal n, from 0, not before epoch (n + 1/2) k.

    k is the number of epochs whose computation, times share / (1 - share), pays for one renewal. It does not depend
    on the number of epochs, so that a training can be prolonged.

    Args:
        share: most of the training's computation that renewals take, in (0, 1); None: every renewal is paid for.
        crop_size: side of the training's crops; 0: whole images.
        validated: validation images for each training image and epoch.

    Raises:
        CvmError: a share outside (0, 1).
    """

    def __init__(self, *, share: float | None = None, crop_size: int = 0, validated: float = 0.0) -> None:
        if share is not None and not 0 < share < 1:
            raise CvmError(f"share must be a number between 0 and 1, or None, got {share!r}")
        self.share, self.crop_size, self.validated = share, crop_size, validated
        self._epochs: float | None = None if share is not None else 0.0

    def allows(self, *, epoch: int, done: int, dataset: Any) -> bool:
        """Whether renewal number `done`, from 0, is paid for at the end of an epoch."""
        if self._epochs is None:
            self._epochs = self.epochs_between(pixels_of(dataset))
        return epoch >= (done + 0.5) * self._epochs

    def epochs_between(self, pixels: Sequence[float]) -> float:
        """Compute k for training images of so many pixels."""
        if self.share is None or not len(pixels):
            return 0.0
        whole = float(np.mean(pixels))
        seen = float(np.mean([min(self.crop_size**2 or size, size) for size in pixels]))
        epoch = TRAINED * seen + self.validated * whole
        return RENEWED * whole / epoch * (1 - self.share) / self.share

    def most(self, pixels: Sequence[float], *, epochs: int) -> int:
        """Compute how many renewals are paid for in so many epochs; as many as epochs if there is no limit."""
        between = self.epochs_between(pixels)
        return epochs if between <= 1 else min(epochs, int(epochs / between + 0.5))


def pixels_of(dataset: Any) -> list[int]:
    """Count the pixels of a few images, evenly spaced over a data set."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLE, len(dataset))).astype(int)) if len(dataset) else ()
    shapes = (dataset[int(index)]["image"].shape[-2:] for index in indices)
    return [int(shape[0]) * int(shape[1]) for shape in shapes]
