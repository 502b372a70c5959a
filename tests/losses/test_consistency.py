"""The masked consistency and the entropy that masks it, by hand and against a loop over pixels."""

import math

import numpy as np
import pytest
import torch

from cvm_monai.losses import masked_consistency, predictive_entropy


def two_classes(target: list[list[float]]) -> torch.Tensor:
    """(1, 2, H, W) probabilities from those of the target."""
    one = torch.tensor(target, dtype=torch.float64)
    return torch.stack([1 - one, one])[None]


def test_entropy_by_hand():
    found = predictive_entropy(two_classes([[0.5, 1.0], [0.0, 0.25]]))
    quarter = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    torch.testing.assert_close(found, torch.tensor([[[math.log(2), 0], [0, quarter]]], dtype=torch.float64))


def test_two_by_two_by_hand():
    """The certain pixels differ by .2 and .1 in each class: (2 * .04 + 2 * .01) / (2 * 2) = .025."""
    student, teacher = two_classes([[0.7, 0.2], [0.9, 0.4]]), two_classes([[0.5, 0.8], [0.1, 0.5]])
    certain = torch.tensor([[[True, False], [False, True]]])
    assert masked_consistency(student, teacher, certain=certain).item() == pytest.approx(0.025)


def test_equals_a_loop_over_pixels():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64).softmax(1) for _ in range(2))
    certain = torch.rand(2, 1, 4, 5, generator=generator) > 0.4
    squares = [
        float(student[b, c, i, j] - teacher[b, c, i, j]) ** 2
        for b, c, i, j in np.ndindex(2, 3, 4, 5)
        if certain[b, 0, i, j]
    ]
    assert masked_consistency(student, teacher, certain=certain).item() == pytest.approx(np.mean(squares), rel=1e-12)


def test_without_a_certain_pixel_it_is_zero_with_a_graph():
    student = two_classes([[0.7, 0.2]]).requires_grad_()
    loss = masked_consistency(student, two_classes([[0.1, 0.1]]), certain=torch.zeros(1, 1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()


def test_the_teacher_is_a_constant():
    student, teacher = two_classes([[0.7]]).requires_grad_(), two_classes([[0.5]]).requires_grad_()
    masked_consistency(student, teacher, certain=torch.ones(1, 1, 1, dtype=torch.bool)).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad.flatten(), torch.tensor([-0.2, 0.2], dtype=torch.float64))


def test_half_precision_is_computed_in_float32():
    half = two_classes([[0.7, 0.2]]).bfloat16()
    assert masked_consistency(half, 1 - half, certain=torch.ones(1, 1, 2, dtype=torch.bool)).dtype == torch.float32
    assert predictive_entropy(half).dtype == torch.float32


@pytest.mark.parametrize(
    "teacher, certain, sentence",
    [
        (torch.rand(1, 2, 3, 4), torch.ones(1, 3, 3, dtype=torch.bool), r"student of shape \(1, 2, 3, 3\) does not m"),
        (torch.rand(1, 2, 3, 3), torch.ones(1, 3, 4, dtype=torch.bool), r"certain of shape \(1, 3, 4\) does not match"),
        (torch.rand(1, 2, 3, 3), torch.ones(1, 3, 3), "certain must be bool, not torch.float32"),
    ],
)
def test_what_does_not_fit_is_named(teacher, certain, sentence):
    with pytest.raises(ValueError, match=sentence):
        masked_consistency(torch.rand(1, 2, 3, 3), teacher, certain=certain)
