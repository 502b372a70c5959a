"""The pseudo-label of one image, as a worker process returns it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PseudoLabel:
    """Pseudo-label of one image.

    Attributes:
        u: float32 in [0, 1], or None if the image gets none. (h, w), of the target, if there are two classes; else
            (C, h, w), of each class, -1 throughout the channel of an unknown class.
        iterations: solver steps, the mean over the image's maps; 0 if no solver ran.
        reason: why there is no pseudo-label; empty otherwise.
    """

    u: np.ndarray | None
    iterations: float = 0.0
    reason: str = ""
