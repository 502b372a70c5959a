"""Progress of a training, and weights that grow with it."""

import math


def progress_of(*, epoch: int, max_epochs: int) -> float:
    """Completed fraction of the training when an epoch, counted from 1, begins: 0 in the first, below 1 in the last."""
    return (epoch - 1) / max_epochs


def linear_ramp(progress: float, length: float) -> float:
    """Grow linearly from 0 to 1 while `progress` goes from 0 to `length`."""
    return min(1.0, progress / length)


def gaussian_ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - x)^2), x the linear ramp: grows from 0.0067 to 1, slowly at first."""
    return math.exp(-5 * (1 - linear_ramp(progress, length)) ** 2)
