"""Precision, shapes and label checks shared by the losses."""

import torch

from cvm_monai.errors import CvmError

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, in which losses are computed; float32 and float64 stay."""
    return values.float() if values.dtype in HALF else values


def as_map(values: torch.Tensor, logits: torch.Tensor, *, name: str) -> torch.Tensor:
    """Reshape `values`, (B, H, W) or (B, 1, H, W), to (B, H, W) and check it against logits (B, C, H, W).

    Raises:
        CvmError: logits of another rank, or a map of another shape.
    """
    if logits.ndim != 4:
        raise CvmError(f"logits must be (B, C, H, W), not {tuple(logits.shape)}")
    batch, _, height, width = logits.shape
    if tuple(values.shape) not in {(batch, height, width), (batch, 1, height, width)}:
        raise CvmError(f"{name} of shape {tuple(values.shape)} does not match logits of shape {tuple(logits.shape)}")
    return values.reshape(batch, height, width)


def annotated_pixels(labels: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """Count the pixels whose label is not `ignore_index`: the divisor of `partial_cross_entropy`."""
    return (labels != ignore_index).sum()


def annotated_labels(
    labels: torch.Tensor, logits: torch.Tensor, *, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels as int64 (B, H, W) for logits (B, C, H, W), and a mask of those that are not `ignore_index`.

    Raises:
        CvmError: shapes that do not match, labels that are not integer, or a label outside the classes.
    """
    if labels.is_floating_point():
        raise CvmError(f"labels must be integer, not {labels.dtype}")
    target = as_map(labels, logits, name="labels").long()
    annotated = target != ignore_index
    wrong = annotated & ((target < 0) | (target >= logits.shape[1]))
    if wrong.any():
        raise CvmError(
            f"label {int(target[wrong][0])} is not a class of logits with {logits.shape[1]} channels "
            f"and not the unlabelled {ignore_index}"
        )
    return target, annotated
