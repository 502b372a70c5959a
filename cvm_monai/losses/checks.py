"""Check the constants of losses and supervisions."""

import math

from cvm_monai.errors import CvmError


def check_number(name: str, value: float, *, low: float = 0.0, high: float = math.inf, above: bool = False) -> None:
    """Raise CvmError for a constant that is not a finite number in [low, high], or in (low, high] if `above`."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and low <= value <= high
        and math.isfinite(value)
        and not (above and value == low)
    ):
        return
    if math.isfinite(high):
        raise CvmError(f"{name} must lie in {'(' if above else '['}{low:g}, {high:g}], got {value!r:.60}")
    raise CvmError(
        f"{name} must be a finite number {'greater than' if above else 'of at least'} {low:g}, got {value!r:.60}"
    )


def check_whole(name: str, value: int, *, low: int) -> None:
    """Raise CvmError for a constant that is not an integer of at least `low`."""
    if type(value) is not int or value < low:
        raise CvmError(f"{name} must be a whole number of at least {low}, got {value!r}")
