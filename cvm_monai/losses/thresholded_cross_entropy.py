"""Cross-entropy to the variational segmentation u cut to a binary mask: the ablation of the weighted KL (Figure 3a)."""

import torch

from cvm_monai.losses.maps import as_map
from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy

WITHOUT = -1
"""Label of pixels without a pseudo-label."""


def thresholded_cross_entropy(logits: torch.Tensor, u: torch.Tensor, *, valid: torch.Tensor) -> torch.Tensor:
    """The mean over the valid pixels of -log y_t, t = 1 where u > 0.5 and 0 elsewhere, y = softmax(logits).

    How sure u is counts no more: 0.51 teaches as much as 1. Without any valid pixel the loss is an exact zero that
    still has a graph.

    Args:
        logits: (B, 2, H, W); half precision is computed in float32.
        u: (B, H, W) or (B, 1, H, W); anything, NaN included, where it is not valid.
        valid: bool, of the shape of u: the pixels that have a pseudo-label.

    Raises:
        ValueError: not two classes, shapes that do not match, `valid` not bool, or a valid u that is NaN.
    """
    target, mask = as_map(u, logits, name="u"), as_map(valid, logits, name="valid")
    if logits.shape[1] != 2:
        raise ValueError(f"u can be cut to a mask for 2 classes, not {logits.shape[1]}")
    if mask.dtype != torch.bool:
        raise ValueError(f"valid must be bool, not {valid.dtype}")
    if (mask & target.isnan()).any():
        raise ValueError("u must be a number wherever it is valid, not NaN")
    labels = (target > 0.5).long()
    return partial_cross_entropy(logits, labels.masked_fill(~mask, WITHOUT), ignore_index=WITHOUT)
