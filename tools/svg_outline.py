"""Rasterise the outlines that the page of `cvm-monai annotate` draws; for its pictures and its tests in a browser."""

import numpy as np
from PIL import Image, ImageDraw


def filled(path: str, size: int) -> np.ndarray:
    """Rasterise an SVG path of closed rings, `M x y L x y ... Z`, by the even-odd rule; bool (size, size)."""
    inside = np.zeros((size, size), bool)
    for ring in path.split("Z"):
        corners = [tuple(map(float, corner.split())) for corner in ring.lstrip("M").split("L") if corner]
        if len(corners) > 2:
            picture = Image.new("1", (size, size))
            ImageDraw.Draw(picture).polygon(corners, fill=1)
            inside ^= np.asarray(picture)
    return inside
