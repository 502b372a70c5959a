"""Two stain vectors and their strongest concentrations, estimated from one image (Macenko et al., ISBI 2009)."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.data.stain.density import density_table, stained

LIGHT = 240.0
"""Grey level of light that met no tissue: scanners leave glass a little below 255."""

LEAST_PIXELS, MOST_PIXELS = 100, 500_000
LEAST_ANGLE = np.deg2rad(5.0)
"""Two stains whose directions are closer than this are one: an image of one stain alone cannot be told apart."""

LEAST_CONCENTRATION = 0.02


@dataclass(frozen=True)
class StainEstimate:
    """The stains of an image.

    Attributes:
        vectors: (2, 3) optical density in R, G and B of haematoxylin and of eosin, each of length one.
        strongest: (2,) the 99th percentile of each concentration.
    """

    vectors: np.ndarray
    strongest: np.ndarray


def estimate_stains(
    image: np.ndarray, *, beta: float = 0.15, alpha: float = 1.0, light: float = LIGHT
) -> StainEstimate | None:
    """Estimate the stains of an image; None if it has too little tissue, or a single stain.

    The densities of stained pixels lie between two directions of the plane that holds most of them: the stains are the
    `alpha`th and the (100 - `alpha`)th percentile of their angles. Haematoxylin is the one that takes more red away.

    Args:
        image: (H, W, 3) uint8 RGB, with its glass, if any.
        beta: see `stained`.
        alpha: raising it trusts extreme pixels less and mixes the stains; 0.1 to 10.
        light: see `density_table`.
    """
    pixels = stained(image, beta=beta, light=light, least=LEAST_PIXELS, most=MOST_PIXELS)
    if pixels is None:
        return None
    density = density_table(light)[pixels].astype(np.float64)
    plane = np.linalg.eigh(np.cov(density.T))[1][:, 1:]  # (3, 2), of the two largest eigenvalues
    plane *= np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    middle = density.mean(axis=0) @ plane
    first, second = _turned(density @ plane, middle, alpha)
    if second - first < LEAST_ANGLE:
        return None
    angle = np.arctan2(middle[1], middle[0]) + np.array([first, second])
    vectors = np.column_stack([np.cos(angle), np.sin(angle)]) @ plane.T  # (2, 3)
    vectors = vectors[np.argsort(-vectors[:, 0])]
    strongest = np.percentile(density @ np.linalg.pinv(vectors), 99, axis=0)
    if (strongest < LEAST_CONCENTRATION).any():
        return None
    return StainEstimate(vectors, strongest)


def change_to(source: StainEstimate, target: StainEstimate) -> np.ndarray:
    """Compute the (3, 3) M of `restain` from one image's stains to another's.

    Each concentration is multiplied by the ratio of the strongest ones, and each stain's vector exchanged. What
    neither stain explains is dropped, as published: ink and pigment take the colours of the stains. On real tissue this
    makes differently stained images more alike than keeping that part.
    """
    matrix: np.ndarray = np.linalg.pinv(source.vectors) @ (
        (target.strongest / source.strongest)[:, None] * target.vectors
    )
    return matrix


def _turned(points: np.ndarray, middle: np.ndarray, alpha: float) -> np.ndarray:
    """(2,) percentiles `alpha` and 100 - `alpha` of the angles of (n, 2) points, measured from `middle`'s direction.

    They are measured from there so that no angle is near the half turn where they jump.
    """
    along, across = points @ middle, points @ np.array([-middle[1], middle[0]])
    found: np.ndarray = np.percentile(np.arctan2(across, along), [alpha, 100 - alpha])
    return found
