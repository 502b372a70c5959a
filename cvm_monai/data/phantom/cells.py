"""The cells of each kind, by their nuclei: target cells, fibroblasts, lymphocytes."""

import numpy as np

from cvm_monai.data.phantom.geometry import dilate, scatter, smooth_noise
from cvm_monai.data.phantom.layout import Layout
from cvm_monai.data.phantom.nuclei import Nuclei
from cvm_monai.data.phantom.stain import Patient

__all__ = ["lymphocytes", "spindle_nuclei", "target_nuclei"]


def target_nuclei(centres: np.ndarray, patient: Patient, rng: np.random.Generator) -> Nuclei:
    """Large, round to oval, pleomorphic, vesicular, with a nucleolus."""
    n = len(centres)
    spread = 0.13 + 0.12 * patient.grade
    width = np.clip(rng.lognormal(np.log(4.9 + 0.7 * patient.grade), spread, n), 3.8, 7.5) * patient.scale
    return Nuclei(
        centre=centres,
        length=width * rng.uniform(1.0, 1.4, n),
        width=width,
        angle=rng.uniform(0, np.pi, n),
        density=np.clip(rng.lognormal(np.log(0.74), 0.25 + 0.2 * patient.grade, n), 0.3, 1.7),
        rim=rng.uniform(0.25, 1.0, n),
        nucleolus=rng.uniform(0, 0.9, n) * (rng.random(n) < 0.7),
        lobing=rng.uniform(0, 0.15, n),
    )


def spindle_nuclei(layout: Layout, angle: np.ndarray, scale: float, rng: np.random.Generator) -> Nuclei:
    """Draw fibroblasts: thin, dark, along the fibres; rarer in sparse stroma, plump and vesicular in reactive one."""
    region = ~dilate(layout.target, 2.2 * scale) & ~layout.lymphocytes
    chance = np.full(region.shape, 0.85)
    for kind, mask in layout.sparse:
        chance[mask] = 0.02 if kind == "fat" else 0.3
    centres = scatter(region, 7.5 * scale, rng, jitter=0.35)
    rows, columns = np.clip(np.floor(centres).astype(int), 0, np.array(region.shape) - 1).T
    kept = rng.random(len(centres)) < chance[rows, columns]
    centres, n = centres[kept], int(kept.sum())
    reactive = smooth_noise(region.shape[0], 12 * scale, rng)[rows, columns][kept]
    plump = np.clip(2 * reactive - 0.6, 0, 1) * rng.uniform(0.3, 1, n)
    return Nuclei(
        centre=centres,
        length=rng.uniform(6.5, 11, n) * (1 - 0.12 * plump) * scale,
        width=(rng.uniform(1.9, 2.9, n) + 2.0 * plump) * scale,
        angle=angle[rows, columns][kept] + rng.normal(0, 0.15, n),
        density=rng.uniform(0.95, 1.6, n) * (1 - 0.4 * plump),
        rim=0.7 * plump,
        nucleolus=np.zeros(n),
        lobing=rng.uniform(0, 0.08, n),
    )


def lymphocytes(layout: Layout, scale: float, rng: np.random.Generator) -> Nuclei:
    """Small, round, dark: crowded in clusters, a few anywhere in the stroma and in the nests."""
    stroma = ~dilate(layout.target, 2 * scale)
    crowd = scatter(layout.lymphocytes, 4.7 * scale, rng)
    single = scatter(stroma, 13 * scale, rng)
    guests = scatter(layout.target, 20 * scale, rng)
    centres = np.concatenate([crowd, single[rng.random(len(single)) < 0.3], guests[rng.random(len(guests)) < 0.3]])
    n = len(centres)
    width = rng.uniform(3.8, 4.6, n) * scale
    return Nuclei(
        centre=centres,
        length=width * rng.uniform(1.0, 1.15, n),
        width=width,
        angle=rng.uniform(0, np.pi, n),
        density=rng.uniform(1.35, 1.9, n),
        rim=np.full(n, 0.1),
        nucleolus=np.zeros(n),
        lobing=rng.uniform(0, 0.05, n),
    )
