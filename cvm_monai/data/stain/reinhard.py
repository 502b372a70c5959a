"""Mean and spread of an image's colours in CIELAB, and an image moved to others (after Reinhard et al., 2001)."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.data.stain.density import by_blocks, stained

LEAST_PIXELS, MOST_PIXELS = 100, 500_000
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class ColourMoments:
    """The colours of stained pixels: `mean` and standard deviation `spread` of L*, a* and b*, (3,) each."""

    mean: np.ndarray
    spread: np.ndarray


def colour_moments(image: np.ndarray, *, beta: float = 0.15, light: float = 240.0) -> ColourMoments | None:
    """Of one image's stained pixels; None where it shows too little tissue, or one colour alone.

    Glass is left out: otherwise the share of glass, not the stain, would decide.

    Args:
        image: (H, W, 3) uint8 RGB.
        beta: see `stained`.
        light: see `stained`.
    """
    from skimage.color import rgb2lab  # slow to import

    pixels = stained(image, beta=beta, light=light, least=LEAST_PIXELS, most=MOST_PIXELS)
    if pixels is None:
        return None
    lab = rgb2lab(pixels[None])[0]
    mean, spread = lab.mean(axis=0), lab.std(axis=0)
    return None if (spread < LEAST_SPREAD).any() else ColourMoments(mean, spread)


def recolour(image: np.ndarray, source: ColourMoments, target: ColourMoments) -> np.ndarray:
    """(H, W, 3) uint8: each of L*, a* and b* stretched and moved from the source's moments to the target's.

    Glass is moved as well, and may be tinted by it.
    """
    from skimage.color import lab2rgb, rgb2lab

    def moved(rows: np.ndarray) -> np.ndarray:
        lab = (rgb2lab(rows) - source.mean) * (target.spread / source.spread) + target.mean
        lab[..., 0] = lab[..., 0].clip(0, 100)
        return np.rint(lab2rgb(lab).clip(0, 1) * 255)

    return by_blocks(image, moved)
