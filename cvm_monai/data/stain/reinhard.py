"""Mean and spread of an image's colours in CIELAB, and an image moved to others (after Reinhard et al., 2001)."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.data.stain.density import by_blocks, density_table, stained

BETA, LIGHT = 0.15, 240.0
"""What counts as stained, see `stained`."""

LEAST_PIXELS, MOST_PIXELS = 100, 500_000
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class ColourMoments:
    """The colours of stained pixels: `mean` and standard deviation `spread` of L*, a* and b*, (3,) each."""

    mean: np.ndarray
    spread: np.ndarray


def colour_moments(image: np.ndarray) -> ColourMoments | None:
    """Compute the colour moments of an image's stained pixels; None if it has too little tissue, or a single colour.

    Glass is left out: otherwise its fraction, not the stain, would dominate.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    from skimage.color import rgb2lab  # slow to import

    pixels = stained(image, beta=BETA, light=LIGHT, least=LEAST_PIXELS, most=MOST_PIXELS)
    if pixels is None:
        return None
    lab = rgb2lab(pixels[None])[0]
    mean, spread = lab.mean(axis=0), lab.std(axis=0)
    return None if (spread < LEAST_SPREAD).any() else ColourMoments(mean, spread)


def recolour(image: np.ndarray, source: ColourMoments, target: ColourMoments) -> np.ndarray:
    """Scale and shift each of L*, a* and b* from the source's moments to the target's, (H, W, 3) uint8.

    Where less than `BETA` of light is taken away a pixel is moved in that proportion, so that glass stays glass, which
    the published method tints.
    """
    from skimage.color import lab2rgb, rgb2lab

    table = density_table(LIGHT)

    def moved(rows: np.ndarray) -> np.ndarray:
        lab = (rgb2lab(rows) - source.mean) * (target.spread / source.spread) + target.mean
        lab[..., 0] = lab[..., 0].clip(0, 100)
        part = (table[rows].mean(axis=-1, keepdims=True) / BETA).clip(0, 1)
        return np.rint(part * 255 * lab2rgb(lab).clip(0, 1) + (1 - part) * rows)

    return by_blocks(image, moved)
