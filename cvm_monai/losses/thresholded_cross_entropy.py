"""Cross-entropy to the variational segmentation u thresholded to a mask: the ablation of the weighted KL (Fig. 3a)."""

import torch

from cvm_monai.errors import CvmError
from cvm_monai.losses.maps import as_map
from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy

WITHOUT = -1
"""Label of pixels without a pseudo-label."""


def thresholded_cross_entropy(logits: torch.Tensor, u: torch.Tensor, *, valid: torch.Tensor) -> torch.Tensor:
    """Mean over the valid pixels of -log y_t, t = 1 where u > 0.5 and 0 elsewhere, y = softmax(logits).

    For more than two classes t is the class of the largest u, at pixels where all classes have a u. The certainty of u
    has no effect: 0.51 has the same weight as 1. Without any valid pixel the loss is an exact zero that still has a
    graph.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        u: for two classes (B, H, W) or (B, 1, H, W), of the target; else (B, C, H, W). Anything, NaN included, where it
            is not valid.
        valid: bool, of the shape of u: the pixels that have a pseudo-label.

    Raises:
        CvmError: shapes that do not match, `valid` not bool, or a valid u that is NaN.
    """
    if valid.dtype != torch.bool:
        raise CvmError(f"valid must be bool, not {valid.dtype}")
    if valid.shape == u.shape and (valid & u.isnan()).any():
        raise CvmError("u must be a number wherever it is valid, not NaN")
    if logits.shape[1] == 2:
        mask = as_map(valid, logits, name="valid")
        labels = (as_map(u, logits, name="u") > 0.5).long()
    elif logits.shape == u.shape == valid.shape:
        labels, mask = u.argmax(dim=1), valid.all(dim=1)
    else:
        shapes = ", ".join(str(tuple(values.shape)) for values in (logits, u, valid))
        raise CvmError(f"logits, u and valid must have one shape (B, C, H, W), got {shapes}")
    return partial_cross_entropy(logits, labels.masked_fill(~mask, WITHOUT), ignore_index=WITHOUT)
