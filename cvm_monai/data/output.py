"""Helpers of all preparations: check the output folder, write images atomically, attach warnings to errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, try_folder


def check_writable(out: Path) -> None:
    """Make the folder, and check before the work starts that it can be written.

    Raises:
        CvmError: it cannot be written into.
    """
    try:
        try_folder(out)
    except OSError as error:
        raise CvmError(f"cannot write into {out} ({error.strerror or error}): give another --output") from None


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write an image, (H, W) or (H, W, 3) uint8, atomically."""
    with replacing(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


@contextmanager
def noted(warnings: Sequence[str]) -> Iterator[None]:
    """Add warnings as notes to a ValueError raised within: ignored files may explain what is missing.

    Args:
        warnings: read when the error is raised.
    """
    try:
        yield
    except ValueError as error:
        for sentence in warnings:
            if sentence not in getattr(error, "__notes__", ()) and sentence not in str(error):
                error.add_note(sentence)
        raise
