"""One phantom case: image, exact target mask, novel mask."""

from dataclasses import dataclass

import numpy as np

from cvm_monai.data.phantom.layout import NovelKind, SparseKind, draw_layout
from cvm_monai.data.phantom.novel import paint_novel
from cvm_monai.data.phantom.stain import Patient, to_rgb
from cvm_monai.data.phantom.texture import draw_tissue
from cvm_monai.errors import CvmError

__all__ = ["MAX_SIZE", "MIN_SIZE", "PhantomCase", "draw_case"]

MIN_SIZE, MAX_SIZE = 64, 8192


@dataclass(frozen=True)
class PhantomCase:
    """An image with its exact masks, and the kinds drawn.

    ``image`` (size, size, 3) uint8 RGB; ``mask``, ``aggregates`` and ``novel`` (size, size) bool, disjoint.
    ``aggregates`` is the second foreground class of a phantom of three classes, None in one of two.
    """

    image: np.ndarray
    mask: np.ndarray
    novel: np.ndarray
    novel_kinds: tuple[NovelKind, ...]
    sparse_kinds: tuple[SparseKind, ...]
    aggregates: np.ndarray | None = None


def draw_case(size: int, patient: Patient, rng: np.random.Generator, *, classes: int = 2) -> PhantomCase:
    """Draws one H&E-like image of ``size`` x ``size`` pixels with its exact masks, from ``rng`` alone.

    Nests of target cells (``mask``) lie in fibrous stroma with lymphocyte clusters and sparse regions; three images in
    four also have ``novel`` regions (folds, ink, necrosis, blood), which are background. Raising ``size`` (from 64)
    shows more tissue, not larger tissue: lengths in pixels depend on ``patient.scale`` alone. With three ``classes``
    the lymphocytes form larger aggregates, with a mask of their own.

    Raises ``CvmError`` for a size under 64.
    """
    if size < MIN_SIZE:
        raise CvmError(f"A phantom image of {size} px is too small to hold both classes: give a size of at least 64.")
    layout = draw_layout(size, patient.scale, rng, classes=classes)
    tissue = draw_tissue(layout, patient, rng)
    for kind, region in layout.novel:
        tissue = paint_novel(tissue, kind, region, patient.scale, rng)
    image = to_rgb(tissue.haematoxylin, tissue.eosin, tissue.pigment, patient, rng)
    return PhantomCase(
        image=image,
        mask=layout.target,
        novel=layout.novel_mask,
        novel_kinds=tuple(kind for kind, _ in layout.novel),
        sparse_kinds=tuple(kind for kind, _ in layout.sparse),
        aggregates=layout.lymphocytes if classes == 3 else None,
    )
