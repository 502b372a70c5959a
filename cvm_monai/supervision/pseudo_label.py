"""The result that a worker process hands back for one image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PseudoLabel:
    """Pseudo-label of one image.

    Attributes:
        u: float32 in [0, 1], or None where the image gets none. (h, w), of the target, where there are two classes;
            else (C, h, w), of each class, -1 all over where nothing is known of a class.
        iterations: solver steps, the mean over the image's maps; 0 where no solver ran.
        reason: why there is none; empty otherwise.
    """

    u: np.ndarray | None
    iterations: float = 0.0
    reason: str = ""
