"""Optical density: by the law of Lambert and Beer the densities of stains add up, -ln(I / I0) = c1 s1 + c2 s2 + ..."""

from collections.abc import Callable, Sequence

import numpy as np

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
DAB = (0.27, 0.57, 0.78)
"""Optical density in R, G and B of a unit of each stain (Ruifrok and Johnston, 2001)."""

STAINS = np.array([HAEMATOXYLIN, EOSIN, DAB])
"""(3, 3), one stain a row; where there is no DAB its row takes up what the other two do not explain."""

BLOCK = 1_000_000
"""Pixels that are changed at once: an image of any size needs the memory of so many, not its own several times."""


def density_table(light: float) -> np.ndarray:
    """(256,) float32: optical density -ln(v / light) of each grey level; 0 counts as 1, the darkest that can be told.

    Args:
        light: grey level of light that met no tissue; levels above it have a negative density.
    """
    return (-np.log(np.maximum(np.arange(256), 1) / light)).astype(np.float32)


def concentration_change(factors: Sequence[float] | np.ndarray) -> np.ndarray:
    """(3, 3) M of `restain` that multiplies the concentrations of haematoxylin, eosin and the rest by three factors."""
    return np.linalg.inv(STAINS) @ np.diag(np.asarray(factors, dtype=np.float64)) @ STAINS


def restain(image: np.ndarray, change: np.ndarray, *, light: float = 255.0) -> np.ndarray:
    """Replace the optical density d of each pixel by d M, d a row (R, G, B); M = 1 changes no pixel.

    Args:
        image: (H, W, 3) uint8 RGB.
        change: (3, 3) M.
        light: see `density_table`.

    Returns:
        (H, W, 3) uint8, rounded.
    """
    difference, table = (change - np.eye(3)).astype(np.float32), density_table(light)

    def changed(rows: np.ndarray) -> np.ndarray:
        return np.rint(rows * np.exp(-table[rows] @ difference)).clip(0, 255)

    return by_blocks(image, changed)


def by_blocks(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What `change` makes of (H, W, 3) uint8, some rows at a time; of the same kind and shape."""
    rows = max(1, BLOCK // image.shape[1])
    result = np.empty_like(image)
    for top in range(0, len(image), rows):
        result[top : top + rows] = change(image[top : top + rows])
    return result


def stained(image: np.ndarray, *, beta: float, light: float, least: int, most: int) -> np.ndarray | None:
    """(n, 3) grey levels of the pixels whose mean optical density is at least `beta`; None: too few.

    The mean of the channels, not each of them: eosin leaves red light alone, and its purest pixels would be lost.

    Args:
        image: (H, W, 3) uint8 RGB.
        beta: raising it leaves out paler tissue with the glass; 0.05 to 0.3.
        light: see `density_table`.
        least: fewer pixels than these are too few.
        most: of more pixels than these every so-manieth is looked at.
    """
    pixels = image.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // most)]
    found: np.ndarray = pixels[density_table(light)[pixels].mean(axis=1) >= beta]
    return found if len(found) >= least else None
