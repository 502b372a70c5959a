"""Consistency loss: squared difference of two predictions where the second is certain."""

import torch

from cvm_monai.errors import CvmError
from cvm_monai.losses.maps import as_map, at_least_float32


def predictive_entropy(probability: torch.Tensor) -> torch.Tensor:
    """-sum_c p log p in nats, (B, C, H, W) to (B, H, W), with 0 log 0 = 0: log C for equal probabilities."""
    return torch.special.entr(at_least_float32(probability)).sum(dim=1)


def masked_consistency(student: torch.Tensor, teacher: torch.Tensor, *, certain: torch.Tensor) -> torch.Tensor:
    """Mean of (student - teacher)^2 over the classes of the certain pixels; the teacher gets no gradient.

    Without any certain pixel the loss is an exact zero that still has a graph.

    Args:
        student, teacher: probabilities (B, C, H, W); half precision is computed in float32.
        certain: bool, (B, H, W) or (B, 1, H, W).

    Raises:
        CvmError: shapes that do not match, or `certain` not bool.
    """
    if student.shape != teacher.shape:
        raise CvmError(f"student of shape {tuple(student.shape)} does not match teacher {tuple(teacher.shape)}")
    if certain.dtype != torch.bool:
        raise CvmError(f"certain must be bool, not {certain.dtype}")
    mask = as_map(certain, student, name="certain")[:, None]
    squares = (at_least_float32(student) - at_least_float32(teacher).detach()) ** 2
    return (mask * squares).sum() / (student.shape[1] * mask.sum()).clamp(min=1)
