"""What the losses share: precision, and the shape of a map that belongs to logits."""

import torch

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision becomes float32, in which losses are computed; float32 and float64 stay."""
    return values.float() if values.dtype in HALF else values


def as_map(values: torch.Tensor, logits: torch.Tensor, *, name: str) -> torch.Tensor:
    """`values`, (B, H, W) or (B, 1, H, W), as the (B, H, W) of logits (B, C, H, W).

    Raises:
        ValueError: logits of another rank, or a map of another shape.
    """
    if logits.ndim != 4:
        raise ValueError(f"logits must be (B, C, H, W), not {tuple(logits.shape)}")
    batch, _, height, width = logits.shape
    if tuple(values.shape) not in {(batch, height, width), (batch, 1, height, width)}:
        raise ValueError(f"{name} of shape {tuple(values.shape)} does not match logits of shape {tuple(logits.shape)}")
    return values.reshape(batch, height, width)
