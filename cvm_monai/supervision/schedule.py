"""How far a training is, the weights that grow with it, and the check of a method's constants."""

import math
from numbers import Real


def progress_of(*, epoch: int, max_epochs: int) -> float:
    """Share of the training that is done when an epoch, counted from 1, begins: 0 in the first, below 1 in the last."""
    return (epoch - 1) / max_epochs


def linear_ramp(progress: float, length: float) -> float:
    """From 0 to 1 while `progress` goes from 0 to `length`."""
    return min(1.0, progress / length)


def gaussian_ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - x)^2), x the linear ramp: from 0.0067 slowly, then fast, to 1."""
    return math.exp(-5 * (1 - linear_ramp(progress, length)) ** 2)


def check_ranges(method: str, **constants: tuple[float, float, float]) -> None:
    """ValueError for the first of `name=(value, low, high)` that is no number in its range, both ends included."""
    for name, (value, low, high) in constants.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{method}: {name} must be a number from {low:g} to {high:g}, got {value!r}")


def check_whole(method: str, **constants: tuple[int, int]) -> None:
    """ValueError for the first of `name=(value, low)` that is no whole number of at least that."""
    for name, (value, low) in constants.items():
        if type(value) is not int or value < low:
            raise ValueError(f"{method}: {name} must be a whole number of at least {low}, got {value!r}")
