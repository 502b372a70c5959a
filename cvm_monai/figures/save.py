"""Write figures to files."""

from pathlib import Path

from matplotlib.figure import Figure

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at its own resolution and return the path.

    The file is replaced atomically, so that a viewer never reads half of it; its folder is created.

    Raises:
        CvmError: a path that does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise CvmError(f"{path} does not end in .png: figures are written as PNG only")
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=figure.dpi, metadata={"Software": None})
    return path
