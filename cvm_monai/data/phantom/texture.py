"""What tissue looks like, as amounts of stain: fibrous stroma, nests of target cells, fat, loose stroma."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cvm_monai.data.phantom.cells import lymphocytes, spindle_nuclei, target_nuclei
from cvm_monai.data.phantom.geometry import dilate, scatter, smooth_noise
from cvm_monai.data.phantom.layout import Layout
from cvm_monai.data.phantom.nuclei import draw_nuclei
from cvm_monai.data.phantom.stain import Patient

__all__ = ["Tissue", "draw_tissue"]


@dataclass(frozen=True)
class Tissue:
    """Amounts of haematoxylin and eosin (H, W) and the optical density of other pigments (H, W, 3)."""

    haematoxylin: np.ndarray
    eosin: np.ndarray
    pigment: np.ndarray


def _fibre_angle(target: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """The direction of the fibres (H, W), radians from the column axis: slowly turning, and wrapped around nests."""
    size = target.shape[0]
    doubled = 2 * (rng.uniform(0, np.pi) + 0.7 * smooth_noise(size, 26 * scale, rng))
    distance = ndimage.distance_transform_edt(~target)
    slope_row, slope_column = np.gradient(ndimage.gaussian_filter(distance, 3 * scale))
    around = 2 * np.arctan2(slope_column, -slope_row)
    weight = np.exp(-((distance / (11 * scale)) ** 2))
    cosine = (1 - weight) * np.cos(doubled) + weight * np.cos(around)
    sine = (1 - weight) * np.sin(doubled) + weight * np.sin(around)
    return 0.5 * np.arctan2(sine, cosine)


def _fibres(angle: np.ndarray, sigma: float, length: float, rng: np.random.Generator) -> np.ndarray:
    """Unit-variance noise drawn out by ``length`` pixels along ``angle`` (a line integral convolution)."""
    size = angle.shape[0]
    noise = smooth_noise(size, sigma, rng)
    grid = np.mgrid[:size, :size].astype(float)
    direction = np.stack([np.sin(angle), np.cos(angle)])
    total = np.zeros_like(noise)
    steps = np.arange(-0.5 * length, 0.5 * length + 1, 1.0)
    for step in steps:
        weight = np.cos(np.pi * step / (length + 2)) ** 2
        total += weight * ndimage.map_coordinates(noise, grid + step * direction, order=1, mode="mirror")
    return (total - total.mean()) / total.std()


def _cell_borders(centres: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The number of the nearest centre and the distance in pixels to the border between two such cells, each (H, W)."""
    seeds = np.zeros(shape, dtype=int)
    rows, columns = np.clip(np.floor(centres).astype(int), 0, np.array(shape) - 1).T
    seeds[rows, columns] = np.arange(1, len(centres) + 1)
    if not len(centres):
        return seeds, np.full(shape, np.inf)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    cells = seeds[tuple(nearest)]
    border = (ndimage.maximum_filter(cells, 3) != cells) | (ndimage.minimum_filter(cells, 3) != cells)
    return cells, ndimage.distance_transform_edt(~border) if border.any() else np.full(shape, np.inf)


def draw_tissue(layout: Layout, patient: Patient, rng: np.random.Generator) -> Tissue:
    """The tissue of a layout without its novel regions, under slowly varying stain."""
    scale, shape = patient.scale, layout.target.shape
    size = shape[0]
    angle = _fibre_angle(layout.target, scale, rng)
    haematoxylin, eosin = _stroma(angle, scale, rng)
    for kind, mask in layout.sparse:
        draw = _fat if kind == "fat" else _loose
        haematoxylin, eosin = draw(haematoxylin, eosin, mask, scale, rng)

    centres = scatter(
        ndimage.binary_erosion(layout.target, iterations=2), (6.1 + 0.7 * patient.grade) * scale, rng, jitter=0.22
    )
    nest_haematoxylin, nest_eosin = _nest(centres, shape, patient, rng)
    soft = ndimage.gaussian_filter(layout.target.astype(float), 0.7)
    halo = _retraction(layout.target, scale, rng)
    haematoxylin = (1 - halo) * ((1 - soft) * haematoxylin + soft * nest_haematoxylin)
    eosin = (1 - halo) * ((1 - soft) * eosin + soft * nest_eosin)

    chromatin = smooth_noise(size, 0.75 * scale, rng)
    for nuclei in (
        target_nuclei(centres, patient, rng),
        spindle_nuclei(layout, angle, scale, rng),
        lymphocytes(layout, scale, rng),
    ):
        cover, amount = draw_nuclei(nuclei, chromatin, rng)
        haematoxylin = (1 - cover) * haematoxylin + amount
        eosin = eosin * (1 - 0.45 * cover)
    haematoxylin = haematoxylin * np.exp(0.13 * smooth_noise(size, 34, rng))
    eosin = eosin * np.exp(0.16 * smooth_noise(size, 30, rng))
    return Tissue(haematoxylin, eosin, np.zeros((*shape, 3)))


def _stroma(angle: np.ndarray, scale: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Collagen: fine and coarse fibres, with pale clefts between bundles."""
    fine = _fibres(angle, 0.6 * scale, 10 * scale, rng)
    coarse = _fibres(angle, 1.5 * scale, 20 * scale, rng)
    cleft = 1 / (1 + np.exp(4.5 * (coarse + 1.55)))
    eosin = np.clip(0.50 + 0.10 * fine + 0.13 * coarse, 0.05, None) * (1 - 0.85 * cleft)
    haematoxylin = np.clip(0.14 + 0.03 * fine + 0.05 * coarse, 0.01, None) * (1 - 0.9 * cleft)
    return haematoxylin, eosin


def _nest(
    centres: np.ndarray, shape: tuple[int, int], patient: Patient, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cytoplasm of target cells: granular, of a tone that varies from cell to cell, pale along the cell borders."""
    cells, distance = _cell_borders(centres, shape)
    tone = ndimage.gaussian_filter(rng.normal(0, 1, len(centres) + 1)[cells], 0.8)
    border = np.exp(-((distance / (0.9 * patient.scale)) ** 2))
    grain = smooth_noise(shape[0], 0.9 * patient.scale, rng)
    eosin = (0.46 - 0.08 * patient.basophilia + 0.05 * tone + 0.05 * grain) * (1 - 0.38 * border)
    haematoxylin = (0.12 + 0.12 * patient.basophilia + 0.03 * tone + 0.03 * grain) * (1 - 0.45 * border)
    return np.maximum(haematoxylin, 0.01), np.maximum(eosin, 0.02)


def _retraction(target: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """How much tissue is missing (0 to 1) in the cleft that opens along parts of a nest's outline."""
    distance = ndimage.distance_transform_edt(~target)
    where = np.clip(smooth_noise(target.shape[0], 9 * scale, rng) - 0.3, 0, 1)
    return 0.8 * where * np.exp(-(((distance - 1.3 * scale) / (0.9 * scale)) ** 2)) * ~target


def _fat(
    haematoxylin: np.ndarray, eosin: np.ndarray, mask: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Adipocytes: empty cells between thin septa."""
    _, distance = _cell_borders(scatter(dilate(mask, 6 * scale), 15 * scale, rng), mask.shape)
    edge = ndimage.distance_transform_edt(mask)
    septum = np.exp(-((np.minimum(distance, np.maximum(edge - 1, 0)) / (0.85 * scale)) ** 2))
    soft = ndimage.gaussian_filter(mask.astype(float), 0.8)
    return haematoxylin * (1 - soft) + soft * 0.10 * septum, eosin * (1 - soft) + soft * 0.34 * septum


def _loose(
    haematoxylin: np.ndarray, eosin: np.ndarray, mask: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Oedematous stroma: pale, with bubbles."""
    soft = ndimage.gaussian_filter(mask.astype(float), 3 * scale)
    bubble = 1 / (1 + np.exp(-4 * (smooth_noise(mask.shape[0], 2.6 * scale, rng) - 0.5)))
    keep = 1 - soft * (0.5 + 0.42 * bubble)
    return haematoxylin * keep, eosin * keep
