"""The uncertainty-weighted Kullback-Leibler divergence between the variational segmentation u and the prediction."""

import torch
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.losses.maps import as_map, at_least_float32


def pixel_entropy(u: torch.Tensor) -> torch.Tensor:
    """Compute h = -u log u - (1 - u) log(1 - u) in nats, 0 log 0 = 0: 0 where u is 0 or 1, log 2 where it is 0.5."""
    p = at_least_float32(u)
    return torch.special.entr(p) + torch.special.entr(1 - p)


def entropy_weight(u: torch.Tensor) -> torch.Tensor:
    """Compute w = exp(-2 h(u)): 1 where u is certain (0 or 1), 0.25 where it is 0.5."""
    return torch.exp(-2 * pixel_entropy(u))


def uncertainty_weighted_kl(
    logits: torch.Tensor, u: torch.Tensor, *, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """L_wkl of the paper: mean over the pixels K of w KL(u || y), y the predicted probability of the target.

    It is the first line of the paper's definition (the minus sign of the second would maximise the divergence). With
    s = z1 - z0 it is w (BCEWithLogits(s, u) - h(u)), finite for every logit; its gradient is w (sigmoid(s) - u) / |K|.
    u and w are constants. Without any valid pixel the loss is an exact zero that still has a graph.

    Args:
        logits: (B, 2, H, W); half precision is computed in float32.
        u: (B, H, W) or (B, 1, H, W) in [0, 1]; anything, NaN included, where it is not valid.
        valid: bool, of the shape of u: the pixels K that have a pseudo-label; None: all.

    Raises:
        CvmError: not two classes, shapes that do not match, `valid` not bool, or a valid u outside [0, 1].
    """
    target = as_map(u, logits, name="u").detach()
    if logits.shape[1] != 2:
        raise CvmError(f"the weighted KL is defined for 2 classes, not {logits.shape[1]}")
    if valid is None:
        mask = torch.ones_like(target, dtype=torch.bool)
    elif valid.dtype != torch.bool:
        raise CvmError(f"valid must be bool, not {valid.dtype}")
    else:
        mask = as_map(valid, logits, name="valid")
    z = at_least_float32(logits)
    target = torch.where(mask, target.to(z.dtype), 0.5)
    if not ((target >= 0) & (target <= 1)).all():
        raise CvmError("u must lie in [0, 1] wherever it is valid, without NaN")
    cross_entropy = functional.binary_cross_entropy_with_logits(z[:, 1] - z[:, 0], target, reduction="none")
    divergence = cross_entropy - pixel_entropy(target)
    return (entropy_weight(target) * mask * divergence).sum() / mask.sum().clamp(min=1)
