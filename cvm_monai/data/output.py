"""What all preparations share: a folder tried before the work, images that appear whole, warnings that are kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, try_folder


def check_writable(out: Path) -> None:
    """Make the folder and try it before the long work starts.

    Raises:
        CvmError: it cannot be written into.
    """
    try:
        try_folder(out)
    except OSError as error:
        raise CvmError(f"cannot write into {out} ({error.strerror or error}): give another --out") from None


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Replace a file by an image, (H, W) or (H, W, 3) uint8."""
    with replacing(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


@contextmanager
def noted(warnings: Sequence[str]) -> Iterator[None]:
    """Add warnings to a ValueError that passes, as its notes: what was passed over may explain what is missing.

    Args:
        warnings: those that are there when the error comes.
    """
    try:
        yield
    except ValueError as error:
        for sentence in warnings:
            if sentence not in getattr(error, "__notes__", ()) and sentence not in str(error):
                error.add_note(sentence)
        raise
