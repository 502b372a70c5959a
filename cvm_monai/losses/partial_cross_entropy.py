"""Cross-entropy on the annotated pixels (Eq. 3)."""

import torch
from torch.nn import functional

from cvm_monai.losses.maps import annotated_labels, at_least_float32


def partial_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """L_pce of Eq. 3: the mean cross-entropy over all annotated pixels S of the batch.

    On dense labels it is the full cross-entropy. A batch without any annotated pixel gives an exact zero that still has
    a graph, never NaN.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        labels: (B, H, W) or (B, 1, H, W), integer: 0 to C - 1, or `ignore_index`.
        ignore_index: label of pixels without annotation.

    Raises:
        CvmError: shapes that do not match, labels that are not integer, or a label outside the classes.
    """
    target, annotated = annotated_labels(labels, logits, ignore_index=ignore_index)
    total = functional.cross_entropy(at_least_float32(logits), target, ignore_index=ignore_index, reduction="sum")
    return total / annotated.sum().clamp(min=1)
