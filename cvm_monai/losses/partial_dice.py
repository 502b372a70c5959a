"""Soft Dice loss on the annotated pixels only."""

import torch
from torch.nn import functional

from cvm_monai.losses.maps import annotated_labels, at_least_float32


def partial_dice(logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """1 - 2 sum_S y t / (sum_S y^2 + sum_S t^2), averaged over the classes that occur in S, background included.

    S are the annotated pixels of the whole batch, y = softmax(logits), t the one-hot labels. Each class has the same
    weight, however few of its pixels are annotated. A class without annotated pixels is left out: its best value would
    be 0 / 0. A batch without any annotated pixel gives an exact zero that still has a graph.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        labels: (B, H, W) or (B, 1, H, W), integer: 0 to C - 1, or `ignore_index`.
        ignore_index: label of pixels without annotation.

    Raises:
        CvmError: shapes that do not match, labels that are not integer, or a label outside the classes.
    """
    target, annotated = annotated_labels(labels, logits, ignore_index=ignore_index)
    inside = annotated[:, None]
    y = torch.softmax(at_least_float32(logits), dim=1) * inside
    t = functional.one_hot(target * annotated, logits.shape[1]).movedim(-1, 1).to(y.dtype) * inside
    overlap, size = (2 * y * t).sum(dim=(0, 2, 3)), (y**2 + t**2).sum(dim=(0, 2, 3))
    present = t.sum(dim=(0, 2, 3)) > 0  # then size is at least 1
    return ((1 - overlap / size.clamp(min=1)) * present).sum() / present.sum().clamp(min=1)
