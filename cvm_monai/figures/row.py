"""The data of one case in a figure."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.errors import CvmError


@dataclass(frozen=True, eq=False)
class FigureRow:
    """Arrays of one case: image, points, truth and maps.

    Attributes:
        case_id: its name.
        image: (H, W, 3) uint8 RGB.
        points: (N, 3): x, y in pixels of `image` (pixel (r, c) covers [c, c+1) x [r, r+1)), label 1 = target, 0 =
            background.
        truth: 1 = target, 0 = background, 255 = ignored; None if unknown.
        pseudo_label: u in [0, 1], or None.
        probability: of the target, in [0, 1].
        dice: of the probability, or None.

    Truth and probability have the same shape. Any map may be coarser than the image, but covers its whole field.

    Raises:
        CvmError: arrays of other shapes; the message names the case.
    """

    case_id: str
    image: np.ndarray
    points: np.ndarray
    truth: np.ndarray | None
    pseudo_label: np.ndarray | None
    probability: np.ndarray
    dice: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise CvmError(
                f"case {self.case_id}: image is {self.image.dtype} of shape {self.image.shape}: give uint8 (H, W, 3)"
            )
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise CvmError(f"case {self.case_id}: points has shape {self.points.shape}: give (N, 3): x, y, label")
        for name in ("truth", "pseudo_label", "probability"):
            array = getattr(self, name)
            if array is not None and array.ndim != 2:
                raise CvmError(f"case {self.case_id}: {name} has shape {array.shape}: give (H, W)")
        if self.truth is not None and self.truth.shape != self.probability.shape:
            raise CvmError(
                f"case {self.case_id}: truth has shape {self.truth.shape} and probability {self.probability.shape}: "
                "resize one of them"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.image.shape[1], self.image.shape[0]
