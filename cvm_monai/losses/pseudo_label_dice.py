"""Dice loss against hard pseudo-labels from the mixture of two predictions (Luo et al., MICCAI 2022)."""

import torch
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.losses.maps import as_map, at_least_float32

SMOOTH = 1e-5


def mixed_pseudo_label(first: torch.Tensor, second: torch.Tensor, *, share: float) -> torch.Tensor:
    """argmax_c of share y1 + (1 - share) y2, y = softmax of logits (B, C, H, W); int64 (B, H, W), without a graph."""
    one, two = (torch.softmax(at_least_float32(logits.detach()), dim=1) for logits in (first, second))
    return (share * one + (1 - share) * two).argmax(dim=1)


def pseudo_label_dice(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - (2 sum y t + s) / (sum y^2 + sum t^2 + s), averaged over the classes, background included.

    The sums run over the whole batch, y = softmax(logits), t the one-hot labels, s = 1e-5: a class that occurs in
    neither has a loss of 0.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        labels: (B, H, W) or (B, 1, H, W), integer, 0 to C - 1.

    Raises:
        CvmError: shapes that do not match, labels that are not integer, or a label outside the classes.
    """
    if labels.is_floating_point():
        raise CvmError(f"labels must be integer, not {labels.dtype}")
    target = as_map(labels, logits, name="labels").long()
    classes = logits.shape[1]
    if ((target < 0) | (target >= classes)).any():
        raise CvmError(f"labels must lie in 0 to {classes - 1}, the classes of the logits")
    y = torch.softmax(at_least_float32(logits), dim=1)
    t = functional.one_hot(target, classes).movedim(-1, 1).to(y.dtype)
    overlap, size = (2 * y * t).sum(dim=(0, 2, 3)), (y**2 + t**2).sum(dim=(0, 2, 3))
    return (1 - (overlap + SMOOTH) / (size + SMOOTH)).mean()
