"""Draw overlays of a few training images at a renewal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cvm_monai.annotations import BACKGROUND, TARGET, UNLABELLED
from cvm_monai.data.transforms import resize_image
from cvm_monai.figures import FigureRow, paper_figure
from cvm_monai.slides import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cvm_monai.engines.renewal import Preview


def preview_figure(previews: Sequence["Preview"]) -> "Figure":
    """Draw one row per image: image with points, mask if there is one, u and the network's probability."""
    return paper_figure([_row(preview) for preview in previews])


def point_rows(in_points: np.ndarray, out_points: np.ndarray) -> np.ndarray:
    """Convert (row, column) arrays to (N, 3) x, y, label at pixel centres."""
    parts = [
        np.column_stack([points[:, 1] + 0.5, points[:, 0] + 0.5, np.full(len(points), label)])
        for points, label in ((in_points, TARGET), (out_points, BACKGROUND))
    ]
    return np.concatenate(parts)


def foreground(mask: np.ndarray) -> np.ndarray:
    """Merge the foreground classes of a mask for the figures: 1 for each foreground class; 0 and 255 stay."""
    return np.where(mask == UNLABELLED, UNLABELLED, mask != BACKGROUND).astype(np.uint8)


def _row(preview: "Preview") -> FigureRow:
    item, shape = preview.item, preview.probability.shape
    mask = item["mask"][0].numpy()
    return FigureRow(
        case_id=str(item["case_id"]),
        image=resize_image(read_image(preview.record["image"]), shape),
        points=point_rows(item["in_points"], item["out_points"]),
        truth=None if (mask == UNLABELLED).all() else foreground(mask),
        pseudo_label=preview.u,
        probability=preview.probability,
        dice=None,
    )
