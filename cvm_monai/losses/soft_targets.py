"""Losses against soft targets on a subset of the pixels, and the sharpening of such targets (MixMatch)."""

import torch
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.losses.maps import as_map, at_least_float32


def sharpen(probability: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """p^(1/T) / sum_c p^(1/T) of (B, C, H, W): T = 1 keeps p, a lower T shifts it to the most probable class."""
    powers = at_least_float32(probability) ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def soft_cross_entropy(logits: torch.Tensor, target: torch.Tensor, *, valid: torch.Tensor) -> torch.Tensor:
    """Mean over the valid pixels of -sum_c t log y; an exact zero with a graph if none is valid.

    Args:
        logits, target: (B, C, H, W); the target is a probability and gets no gradient.
        valid: bool, (B, H, W) or (B, 1, H, W).

    Raises:
        CvmError: shapes that do not match, or `valid` not bool.
    """
    mask = _checked(logits, target, valid)
    z = at_least_float32(logits)
    return -(mask * target.detach() * functional.log_softmax(z, dim=1)).sum() / mask.sum().clamp(min=1)


def brier(logits: torch.Tensor, target: torch.Tensor, *, valid: torch.Tensor) -> torch.Tensor:
    """Mean over the valid pixels and the classes of (y - t)^2; arguments and errors as `soft_cross_entropy`."""
    mask = _checked(logits, target, valid)
    squares = (torch.softmax(at_least_float32(logits), dim=1) - target.detach()) ** 2
    return (mask * squares).sum() / (logits.shape[1] * mask.sum()).clamp(min=1)


def _checked(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Check the shapes and return `valid` as (B, 1, H, W)."""
    if logits.shape != target.shape:
        raise CvmError(f"target of shape {tuple(target.shape)} does not match logits of shape {tuple(logits.shape)}")
    if valid.dtype != torch.bool:
        raise CvmError(f"valid must be bool, not {valid.dtype}")
    return as_map(valid, logits, name="valid")[:, None]
