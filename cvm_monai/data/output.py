"""Files of a data set: a folder tried before the work, images that appear whole."""

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
