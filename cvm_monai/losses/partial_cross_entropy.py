"""Cross-entropy on the annotated pixels (Eq. 3)."""

import torch
from torch.nn import functional

from cvm_monai.losses.maps import as_map, at_least_float32


def partial_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """L_pce of Eq. 3: the mean cross-entropy over all annotated pixels S of the batch.

    On labels that are dense it is the full cross-entropy. A batch without any annotated pixel gives an exact zero that
    still has a graph, never NaN.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        labels: (B, H, W) or (B, 1, H, W), integer: 0 to C - 1, or `ignore_index`.
        ignore_index: label of pixels without annotation.

    Raises:
        ValueError: shapes that do not match, labels that are not integer, or a label that no class has.
    """
    if labels.is_floating_point():
        raise ValueError(f"labels must be integer, not {labels.dtype}")
    target = as_map(labels, logits, name="labels").long()
    annotated = target != ignore_index
    wrong = annotated & ((target < 0) | (target >= logits.shape[1]))
    if wrong.any():
        raise ValueError(
            f"label {int(target[wrong][0])} is no class of logits with {logits.shape[1]} channels "
            f"and not the unlabelled {ignore_index}"
        )
    total = functional.cross_entropy(at_least_float32(logits), target, ignore_index=ignore_index, reduction="sum")
    return total / annotated.sum().clamp(min=1)
