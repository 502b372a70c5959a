"""Resolution: um/px of the file or the user, its plausibility, and the levels of a pyramid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cvm_monai.errors import CvmError

MppSource = Literal["file", "user", "none"]

LIMITS = (0.1, 10.0)
"""Plausible um/px of a light microscope: 100x oil has about 0.1; above 10 cells are invisible."""

MAX_RATIO = 2.0
"""Largest ratio between an image's um/px and the model's; beyond it objects are too large or small for the network."""

SAME = 0.01
ANISOTROPIC = 0.1
DISAGREE = 0.1


LEVEL_TOLERANCE = 0.01
"""Relative tolerance by which a level may be coarser than requested: upsampling by 1 % hardly blurs, and reading the
finer level takes longer."""

ASPECT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Mpp:
    """Micrometres per level-0 pixel.

    Attributes:
        value: None where unknown.
        source: where the value comes from: the file, the user, or none.
    """

    value: float | None
    source: MppSource


class HasMpp(Protocol):
    """The attributes of an opened image that `require_mpp` uses."""

    @property
    def path(self) -> object: ...

    @property
    def mpp(self) -> Mpp: ...


def decide_mpp(name: object, found: tuple[float, float] | None, user: float | None) -> tuple[Mpp, tuple[str, ...]]:
    """Decide which um/px to use, with warnings for the user.

    The user's value wins, with a warning if it differs from the file's by more than 10 %. The file's x and y values are
    averaged, with a warning if they differ by more than 1 %, and rejected if they differ by more than 10 %.

    Args:
        name: name of the file, for the warnings.
        found: (x, y) um/px of the file, or None.
        user: the user's um/px, or None.

    Raises:
        CvmError: a user's value that is not a positive number.
    """
    if user is not None and not (math.isfinite(user) and user > 0):
        raise CvmError(f"mpp must be a positive number of um/px, got {user!r}")
    value, warnings = _from_file(name, found)
    if user is None:
        return (Mpp(None, "none") if value is None else Mpp(value, "file")), warnings
    if value is not None and abs(user - value) > DISAGREE * value:
        return Mpp(user, "user"), (f"{name}: {user:g} um/px were given and are used; the file says {value:g}",)
    return Mpp(user, "user"), ()


def _from_file(name: object, found: tuple[float, float] | None) -> tuple[float | None, tuple[str, ...]]:
    """Combine the file's x and y values to one number."""
    if found is None or not all(math.isfinite(value) and value > 0 for value in found):
        return None, ()
    x, y = found
    mean, apart = (x + y) / 2, abs(x - y) / min(x, y)
    if apart > ANISOTROPIC:
        return None, (f"{name}: the file says {x:g} um/px across and {y:g} down, which is not believed",)
    if apart > SAME:
        return mean, (f"{name}: the file says {x:g} um/px across and {y:g} down; {mean:g} is used for both",)
    return mean, ()


def require_mpp(image: HasMpp, flag: str = "--mpp") -> float:
    """Return the image's um/px.

    Args:
        flag: the option that sets it, for the message.

    Raises:
        CvmError: it is unknown.
    """
    if image.mpp.value is None:
        raise CvmError(
            f"{image.path} does not state its um/px: give {flag}, for example {flag} 0.5 for a slide scanned at 20x, "
            "or 0.25 at 40x"
        )
    return image.mpp.value


def check_mpp(found: float, model: float | None, *, force: bool = False, flag: str = "--mpp") -> None:
    """Refuse a um/px that is implausible for a microscope, or differs from the model's by more than a factor of two.

    Args:
        found: um/px of the image.
        model: um/px that the network was trained at; None skips the comparison.
        force: accept both.
        flag: the option that sets the image's, for the message.

    Raises:
        CvmError: naming ``--force_mpp``.
    """
    if force:
        return
    if not LIMITS[0] <= found <= LIMITS[1]:
        raise CvmError(
            f"{found:.4g} um/px is not a resolution of a microscope ({LIMITS[0]:g} to {LIMITS[1]:g}): "
            f"say the right one with {flag}, or --force_mpp to go on"
        )
    if model is not None and not 1 / MAX_RATIO <= found / model <= MAX_RATIO:
        raise CvmError(
            f"the image has {found:.4g} um/px, more than {MAX_RATIO:g} times off the model's {model:.4g}: "
            f"say the right one with {flag}, or --force_mpp to go on"
        )


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        height, width: size in the level's pixels.
        downsample: side of a pixel of the level in level-0 pixels; 1 for level 0.
    """

    height: int
    width: int
    downsample: float


def make_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Make levels from their (height, width), the finest first."""
    height, width = sizes[0]
    return tuple(Level(h, w, downsample((height, width), (h, w))) for h, w in sizes)


def downsample(full: tuple[int, int], small: tuple[int, int]) -> float:
    """Compute level-0 pixels per level pixel: the integer that fits both sides up to rounding, else their mean ratio.

    A side of 1001 px downsampled by 2 is 500 or 501 px long; the downsample is 2 in either case.
    """
    ratios = [a / b for a, b in zip(full, small, strict=True)]
    mean = sum(ratios) / len(ratios)
    for factor in {round(mean), math.floor(mean), math.ceil(mean)} - {0}:
        if all(small_side in (a // factor, -(-a // factor)) for a, small_side in zip(full, small, strict=True)):
            return float(factor)
    return mean


def pyramid_sizes(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Select the indices of the sizes that form one pyramid with the first: ever smaller, with one aspect ratio."""
    kept = [0]
    for index, (height, width) in enumerate(sizes[1:], start=1):
        smaller = height < sizes[kept[-1]][0] and width < sizes[kept[-1]][1]
        if smaller and min(height, width) > 0:
            ratios = sizes[0][0] / height, sizes[0][1] / width
            slack = ASPECT_TOLERANCE + 1 / min(height, width)
            if abs(ratios[0] - ratios[1]) <= slack * max(ratios):
                kept.append(index)
    return kept


def best_level(levels: Sequence[Level], scale: float) -> int:
    """Return the coarsest level not coarser than ``scale`` level-0 pixels per output pixel; level 0 if none is."""
    fine = [index for index, level in enumerate(levels) if level.downsample <= scale * (1 + LEVEL_TOLERANCE)]
    return fine[-1] if fine else 0
