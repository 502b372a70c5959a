"""Novel regions: folds, marker ink, necrosis and blood, painted over the tissue; no annotated point ever marks them."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from cvm_monai.data.phantom.geometry import scatter, smooth_noise
from cvm_monai.data.phantom.layout import NovelKind
from cvm_monai.data.phantom.nuclei import Nuclei, draw_nuclei
from cvm_monai.data.phantom.texture import Tissue

__all__ = ["paint_novel"]

_INKS = ((1.25, 0.45, 0.95), (1.35, 0.80, 0.25), (1.05, 1.05, 1.00))
"""Optical densities in R, G, B of green, blue and black marker."""
_BLOOD = (0.10, 0.85, 0.80)


def paint_novel(tissue: Tissue, kind: NovelKind, mask: np.ndarray, scale: float, rng: np.random.Generator) -> Tissue:
    """The tissue with the region ``mask`` (H, W) turned into a fold, ink, necrosis or blood."""
    return _PAINTERS[kind](tissue, mask, scale, rng)


def _fold(tissue: Tissue, mask: np.ndarray, scale: float, rng: np.random.Generator) -> Tissue:
    """Two layers of tissue over each other: the amounts add, most along the crease."""
    shift = np.round(rng.uniform(8, 14, 2) * scale * rng.choice([-1, 1], 2)).astype(int)
    depth = ndimage.distance_transform_edt(mask)
    soft = ndimage.gaussian_filter(mask.astype(float), 0.6)
    layer = soft * (0.85 + 0.35 * np.exp(-(((depth - 1.5) / 1.5) ** 2)))

    def doubled(amount: np.ndarray) -> np.ndarray:
        return amount + layer * (0.55 * np.roll(amount, tuple(shift), (0, 1)) + 0.55 * np.median(amount[mask]) + 0.18)

    return Tissue(doubled(tissue.haematoxylin), doubled(tissue.eosin), tissue.pigment)


def _ink(tissue: Tissue, mask: np.ndarray, scale: float, rng: np.random.Generator) -> Tissue:
    """Marker ink: one hue, streaky, through which the tissue still shows."""
    soft = ndimage.gaussian_filter(mask.astype(float), 0.9)
    streak = smooth_noise(mask.shape[0], 2.5 * scale, rng)
    edge = np.exp(-((ndimage.distance_transform_edt(mask) / (2.5 * scale)) ** 2))
    strength = soft * np.clip(0.75 + 0.14 * streak + 0.25 * edge, 0.2, None)
    ink = strength[..., None] * np.array(_INKS[rng.integers(len(_INKS))])
    veil = 1 - 0.5 * soft
    return Tissue(tissue.haematoxylin * veil, tissue.eosin * veil, tissue.pigment + ink)


def _necrosis(tissue: Tissue, mask: np.ndarray, scale: float, rng: np.random.Generator) -> Tissue:
    """Smudged pink ground with ghosts of cells and dark nuclear dust."""
    size = mask.shape[0]
    soft = ndimage.gaussian_filter(mask.astype(float), 1.2)
    smudge, grain = smooth_noise(size, 3 * scale, rng), smooth_noise(size, 0.8, rng)
    ground_eosin = np.clip(0.62 + 0.08 * smudge + 0.09 * grain, 0.1, None)
    ground_haematoxylin = np.clip(0.16 + 0.05 * smudge + 0.05 * grain, 0.02, None)
    centres = scatter(ndimage.binary_erosion(mask, iterations=2), 4.6 * scale, rng, jitter=0.5)
    centres = centres[rng.random(len(centres)) < 0.75]
    n = len(centres)
    width = rng.uniform(1.1, 2.8, n) * scale
    dust = Nuclei(
        centre=centres,
        length=width * rng.uniform(1, 1.6, n),
        width=width,
        angle=rng.uniform(0, np.pi, n),
        density=rng.uniform(0.3, 1.7, n),
        rim=np.zeros(n),
        nucleolus=np.zeros(n),
        lobing=rng.uniform(0, 0.15, n),
    )
    cover, amount = draw_nuclei(dust, grain, rng)
    ground_haematoxylin = (1 - cover) * ground_haematoxylin + amount
    return Tissue(
        (1 - soft) * tissue.haematoxylin + soft * ground_haematoxylin,
        (1 - soft) * tissue.eosin + soft * ground_eosin,
        tissue.pigment,
    )


def _blood(tissue: Tissue, mask: np.ndarray, scale: float, rng: np.random.Generator) -> Tissue:
    """Packed red cells: orange-red discs with a paler middle."""
    soft = ndimage.gaussian_filter(mask.astype(float), 0.8)
    centres = scatter(mask, 4.1 * scale, rng, jitter=0.2)
    n = len(centres)
    width = rng.uniform(4.3, 5.4, n) * scale
    discs = Nuclei(
        centre=centres,
        length=width * rng.uniform(1, 1.2, n),
        width=width,
        angle=rng.uniform(0, np.pi, n),
        density=rng.uniform(0.5, 0.85, n),
        rim=np.full(n, 0.45),
        nucleolus=np.zeros(n),
        lobing=rng.uniform(0, 0.06, n),
    )
    _, amount = draw_nuclei(discs, 0.5 * smooth_noise(mask.shape[0], 1.0, rng), rng)
    red = (soft * (0.34 + 0.85 * amount))[..., None] * np.array(_BLOOD)
    return Tissue(tissue.haematoxylin * (1 - soft), tissue.eosin * (1 - soft), tissue.pigment + red)


_PAINTERS: dict[NovelKind, Callable[[Tissue, np.ndarray, float, np.random.Generator], Tissue]] = {
    "fold": _fold,
    "ink": _ink,
    "necrosis": _necrosis,
    "blood": _blood,
}
