"""The uncertainty-weighted Kullback-Leibler divergence for any number of classes."""

import math

import torch

from cvm_monai.errors import CvmError
from cvm_monai.losses.consistency import predictive_entropy
from cvm_monai.losses.maps import at_least_float32

SUM_TOLERANCE = 1e-3
"""Tolerance on the sum of a pixel's known classes against 1, for rounding in half precision and in files."""


def categorical_weight(q: torch.Tensor, *, classes: torch.Tensor | int) -> torch.Tensor:
    """Compute w = exp(-2 h log 2 / log C), h the entropy of q (B, C, H, W) in nats: (B, H, W).

    1 where q is certain and 0.25 where all classes are equally probable, whatever their number; for two classes it is
    the exp(-2 h) of `entropy_weight`.

    Args:
        classes: C, at least 2, or (B, H, W) if it differs between pixels: the number of classes that q covers.
    """
    number = torch.as_tensor(classes, dtype=q.dtype, device=q.device)
    return torch.exp(-2 * predictive_entropy(q) * math.log(2) / torch.log(number))


def categorical_weighted_kl(logits: torch.Tensor, q: torch.Tensor, *, known: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels K of w sum_c q_c log(q_c / y_c), the L_wkl of `uncertainty_weighted_kl` for C classes.

    y is the softmax of the logits over the classes that are known at the pixel, so that a class that q does not cover
    gets no gradient there. K are the pixels with two or more known classes; w is `categorical_weight` with the number
    of known classes. q and w are constants. Without such a pixel the loss is an exact zero that still has a graph. With
    two classes, both known, it equals the binary loss.

    Args:
        logits: (B, C, H, W); half precision is computed in float32.
        q: (B, C, H, W), in [0, 1] with the sum 1 over the known classes of a pixel; anything, NaN included, elsewhere.
        known: bool, (B, C, H, W).

    Raises:
        CvmError: shapes that do not match, `known` not bool, or a q that is not a distribution over the known classes.
    """
    if logits.ndim != 4 or logits.shape != q.shape or logits.shape != known.shape:
        shapes = ", ".join(str(tuple(values.shape)) for values in (logits, q, known))
        raise CvmError(f"logits, q and known must have one shape (B, C, H, W), got {shapes}")
    if known.dtype != torch.bool:
        raise CvmError(f"known must be bool, not {known.dtype}")
    z = at_least_float32(logits)
    number = known.sum(dim=1)
    valid = number >= 2
    asked = known & valid[:, None]
    target = torch.where(asked, q.detach().to(z.dtype), 0.0)
    total = target.sum(dim=1)
    if not ((target >= 0) & (target <= 1)).all() or not ((total - 1).abs()[valid] <= SUM_TOLERANCE).all():
        raise CvmError("q must lie in [0, 1] and sum to 1 over the known classes of each pixel, without NaN")
    log_y = z - torch.logsumexp(z.masked_fill(~asked & valid[:, None], -torch.inf), dim=1, keepdim=True)
    divergence = -predictive_entropy(target) - torch.where(asked, target * log_y, 0.0).sum(dim=1)
    weight = categorical_weight(target, classes=number.clamp(min=2))
    return (weight * valid * divergence).sum() / valid.sum().clamp(min=1)
