"""Figures to files."""

import os
from pathlib import Path

from matplotlib.figure import Figure

from cvm_monai.errors import CvmError


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at its own resolution and return the path.

    The file is written aside and renamed, so that a viewer never reads half of it; its folder is made.

    Raises:
        CvmError: a path that does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise CvmError(f"{path} does not end in .png: figures are written as PNG only")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(aside, format="png", dpi=figure.dpi, metadata={"Software": None})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
