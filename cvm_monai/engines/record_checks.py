"""What the settings in a training's run.json may be: the file is a user's, and anything may stand there."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from cvm_monai.engines.selection import Selection
from cvm_monai.errors import CvmError
from cvm_monai.files import shown
from cvm_monai.networks import EncoderNorm, NetworkName, Normalisation
from cvm_monai.supervision.contrast_evidence import Contrast
from cvm_monai.supervision.cvm import Evidence
from cvm_monai.variational import Centre

WIDEST = 2**12
"""Channels that a layer of a network may have; a record that says more would ask for all memory."""

MOST_CLASSES = 255


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _are_numbers(value: Any, *, above: float = -math.inf) -> bool:
    """Three of them, one for each channel."""
    return isinstance(value, list | tuple) and len(value) == 3 and all(_is_number(v) and v > above for v in value)


def _are_widths(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 5 and all(_is_whole(v, 1, WIDEST) for v in value)


CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "network": (lambda value: value in get_args(NetworkName), f"one of {', '.join(get_args(NetworkName))}"),
    "network_channels": (
        lambda value: value is None or _are_widths(value),
        f"null or five whole numbers from 1 to {WIDEST}",
    ),
    "normalisation": (lambda value: value in get_args(Normalisation), f"one of {', '.join(get_args(Normalisation))}"),
    "encoder_norm": (
        lambda value: value is None or value in get_args(EncoderNorm),
        f"null or one of {', '.join(get_args(EncoderNorm))}",
    ),
    "extractor_path": (
        lambda value: value is None or isinstance(value, str),
        "null, the path of a file, timm:NAME or imagenet",
    ),
    "extractor_weights": (lambda value: value is None or isinstance(value, str), "null or the path of a file"),
    "classes": (lambda value: _is_whole(value, 2, MOST_CLASSES), f"a whole number from 2 to {MOST_CLASSES}"),
    "scale": (lambda value: _is_number(value) and value > 0, "a number greater than 0"),
    "mpp": (lambda value: value is None or (_is_number(value) and value > 0), "null or a number greater than 0"),
    "image_mean": (_are_numbers, "three numbers"),
    "image_std": (lambda value: _are_numbers(value, above=0), "three numbers greater than 0"),
    "stain_normalisation": (lambda value: value is None or isinstance(value, str), "null or a method's name"),
    "contrast": (lambda value: value in get_args(Contrast), f"one of {', '.join(get_args(Contrast))}"),
    "centre": (lambda value: value in get_args(Centre), f"one of {', '.join(get_args(Centre))}"),
    "evidence": (lambda value: value in get_args(Evidence), f"one of {', '.join(get_args(Evidence))}"),
    "discriminant": (lambda value: _is_number(value) and 0 <= value <= 1, "a number in [0, 1]"),
    "selection": (lambda value: value in get_args(Selection), f"one of {', '.join(get_args(Selection))}"),
    "pairs": (lambda value: _is_whole(value, 1, 2**31), "a whole number of at least 1"),
    "fold": (lambda value: _is_whole(value, 0, 2**31), "a whole number of at least 0"),
}
"""By setting: what is right, and how a sentence calls it. Other settings are checked where they are used."""


def check_recorded(file: Path, name: str, value: Any) -> Any:
    """The value of a setting as a training recorded it.

    Raises:
        CvmError: it is none that a training could have had, with the file and what it must be.
    """
    right, what = CHECKS.get(name, (lambda value: True, ""))
    if not right(value):
        raise CvmError(f"{file}: {name} must be {what}, found {shown(value)}: train again, or restore the file")
    return value
