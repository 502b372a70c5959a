"""Where things lie in a phantom image: target nests, novel regions, sparse regions and lymphocyte clusters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from cvm_monai.data.phantom.geometry import Window, blob, dilate, place, smooth_noise, stroke

__all__ = ["NOVEL_KINDS", "SPARSE_KINDS", "Layout", "NovelKind", "SparseKind", "draw_layout"]

NovelKind = Literal["fold", "ink", "necrosis", "blood"]
SparseKind = Literal["fat", "loose"]
NOVEL_KINDS: tuple[NovelKind, ...] = get_args(NovelKind)
SPARSE_KINDS: tuple[SparseKind, ...] = get_args(SparseKind)

_AGGREGATE_ROOM = 60
"""The same for lymphoid aggregates, which are small."""
_ROOM = 150
"""Pixels that each class must offer to points."""
_MARGIN = 3
"""Pixels between a point and the nearest border of a region."""


@dataclass(frozen=True)
class Layout:
    """Masks (size, size) of one phantom image; ``novel`` and ``sparse`` hold one (kind, mask) for each kind present.

    ``lymphocytes`` are clusters of the background, or, in a phantom of three classes, the aggregates of its second
    foreground class.
    """

    target: np.ndarray
    novel: tuple[tuple[NovelKind, np.ndarray], ...]
    sparse: tuple[tuple[SparseKind, np.ndarray], ...]
    lymphocytes: np.ndarray

    @property
    def novel_mask(self) -> np.ndarray:
        """All novel regions as one mask."""
        return _union(self.target.shape, self.novel)


def draw_layout(size: int, scale: float, rng: np.random.Generator, *, classes: int = 2) -> Layout:
    """Draws layouts until one offers each class room for points: see ``_acceptable``.

    ``scale`` multiplies every length (0.8 to 1.25); with three ``classes``, lymphoid aggregates take the place of the
    background's lymphocyte clusters.
    """
    while True:
        wobble = smooth_noise(size, 3.5 * scale, rng)
        novel, occupied = _draw_novel(wobble, scale, rng)
        novel_mask = _union(occupied.shape, novel)
        target = _draw_nests(wobble, occupied, scale, rng)
        aggregates = _draw_aggregates(wobble, occupied, scale, rng) if classes == 3 else None
        if aggregates is not None and _depth(aggregates) < _AGGREGATE_ROOM:
            continue
        if _acceptable(target, novel_mask if aggregates is None else novel_mask | aggregates):
            break
    taken = dilate(target, 3.5 * scale) | dilate(novel_mask, 1.5)
    if aggregates is not None:
        taken |= dilate(aggregates, 2.5 * scale)
    sparse = _draw_sparse(wobble, taken, scale, rng)
    if aggregates is not None:
        return Layout(target, novel, sparse, aggregates)
    clusters = _draw_clusters(wobble, taken | _union(taken.shape, sparse), scale, rng)
    return Layout(target, novel, sparse, clusters)


def _union(shape: tuple[int, ...], regions: Iterable[tuple[str, np.ndarray]]) -> np.ndarray:
    return np.logical_or.reduce([np.zeros(shape, dtype=bool), *(mask for _, mask in regions)])


def _acceptable(target: np.ndarray, novel: np.ndarray) -> bool:
    """Whether 0.17 to 0.55 of the image is target and each class has room for points away from any border."""
    rest = ~dilate(target | novel, _MARGIN)
    return 0.17 <= target.mean() <= 0.55 and min(_depth(target), rest.sum()) >= _ROOM


def _depth(mask: np.ndarray) -> int:
    """Pixels of a mask that lie away from its border, as far as points do."""
    return int((ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] > _MARGIN).sum())


def _centre(size: int, rng: np.random.Generator, *, border: float = 8.0) -> np.ndarray:
    return rng.uniform(border, size - border, 2)


def _heart(centre: np.ndarray, radius: float) -> Window:
    """A square that a blob of this centre and radius all but fills: cheap to test before the blob is drawn."""
    low, high = np.maximum(centre - 0.5 * radius, 0).astype(int), (centre + 0.5 * radius).astype(int) + 1
    return slice(low[0], high[0]), slice(low[1], high[1])


def _per_area(size: int, count: float) -> int:
    """How many of a thing an image holds of which one of 128 pixels holds ``count``."""
    return max(1, round(count * (size / 128) ** 2))


def _draw_novel(
    wobble: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[tuple[tuple[NovelKind, np.ndarray], ...], np.ndarray]:
    """The novel regions that three images in four have, and the pixels from which nests must then keep clear."""
    size = wobble.shape[0]
    occupied = np.zeros((size, size), dtype=bool)
    if rng.random() > 0.75:
        return (), occupied
    shrink = scale * min(1.0, 0.25 + size / 170)
    masks: dict[NovelKind, np.ndarray] = {}
    for _ in range(_per_area(size, rng.choice([1, 2], p=[0.7, 0.3]))):
        kind = NOVEL_KINDS[rng.integers(len(NOVEL_KINDS))]
        centre = _centre(size, rng)
        if kind == "fold":
            shape = stroke(wobble, centre, rng.uniform(80, 150) * shrink, rng.uniform(8, 13) * shrink, rng)
        elif kind == "ink":
            shape = stroke(wobble, centre, rng.uniform(30, 60) * shrink, rng.uniform(15, 24) * shrink, rng)
        else:
            shape = blob(wobble, centre, rng.uniform(15, 24) * shrink, rng)
        canvas = masks.setdefault(kind, np.zeros_like(occupied))
        place(canvas, occupied, *shape, gap=4 * scale)
    return tuple((kind, mask) for kind, mask in masks.items() if mask.any()), occupied


def _draw_nests(wobble: np.ndarray, occupied: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Nests of 25 to 70 pixels, at most four in 128 x 128 pixels, until a drawn fraction of the image is covered."""
    size = wobble.shape[0]
    target = np.zeros_like(occupied)
    wanted = rng.uniform(0.22, 0.46)
    most = math.ceil(4 * (size / 128) ** 2)
    placed = 0
    for _ in range(40 * most):
        radius = 0.5 * min(rng.uniform(31, 56) * scale, 0.62 * size)
        centre = _centre(size, rng)
        if occupied[_heart(centre, radius)].any():
            continue
        if not place(target, occupied, *blob(wobble, centre, radius, rng), gap=6 * scale):
            continue
        placed += 1
        if placed == most or target.mean() >= wanted:
            break
    return target


def _draw_aggregates(wobble: np.ndarray, occupied: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Lymphoid aggregates of 20 to 36 pixels, at most three in 128 x 128 pixels, clear of nests and novel regions."""
    size = wobble.shape[0]
    aggregates = np.zeros_like(occupied)
    most, placed = math.ceil(3 * (size / 128) ** 2), 0
    for _ in range(20 * most):
        radius = rng.uniform(10, 18) * scale
        placed += place(aggregates, occupied, *blob(wobble, _centre(size, rng), radius, rng), gap=4 * scale)
        if placed == most:
            break
    return aggregates


def _draw_sparse(
    wobble: np.ndarray, taken: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[tuple[SparseKind, np.ndarray], ...]:
    """Two images in three have sparse regions: lobules of fat or loose stroma, behind whatever lies there already."""
    size = wobble.shape[0]
    if rng.random() > 2 / 3:
        return ()
    masks: dict[SparseKind, np.ndarray] = {}
    taken = taken.copy()
    for _ in range(_per_area(size, 1.4)):
        kind = SPARSE_KINDS[rng.integers(len(SPARSE_KINDS))]
        window, mask = blob(wobble, _centre(size, rng, border=0), rng.uniform(18, 34) * scale, rng, roughness=3)
        masks.setdefault(kind, np.zeros_like(taken))[window] |= mask & ~taken[window]
        taken[window] |= mask
    return tuple((kind, mask) for kind, mask in masks.items() if mask.any())


def _draw_clusters(wobble: np.ndarray, taken: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Clusters of lymphocytes in the stroma that is left: dark, dense, and background."""
    size = wobble.shape[0]
    clusters = np.zeros_like(taken)
    for _ in range(_per_area(size, rng.uniform(1.0, 3.4))):
        window, mask = blob(wobble, _centre(size, rng, border=0), rng.uniform(9, 17) * scale, rng, roughness=3)
        clusters[window] |= mask & ~taken[window]
    return clusters
