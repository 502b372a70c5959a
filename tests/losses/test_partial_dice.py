"""Soft Dice on annotated pixels, by hand and against a NumPy loop."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cvm_monai.losses import partial_dice


def logits_of(target: list[list[float]]) -> torch.Tensor:
    """(1, 2, H, W) logits whose softmax gives these probabilities of the target."""
    one = torch.tensor(target, dtype=torch.float64)
    return torch.stack([torch.log(1 - one), torch.log(one)])[None]


def test_by_hand_the_unlabelled_pixel_counts_nothing():
    """y1 = (.5, .9; .2, .7), labels (1, 1; 0, -): target 2 * 1.4 / (.25 + .81 + .04 + 2), background, with
    y0 = (.5, .1; .8): 2 * .8 / (.25 + .01 + .64 + 1).
    """
    labels = torch.tensor([[[1, 1], [0, 255]]], dtype=torch.uint8)
    expected = 1 - (2.8 / 3.1 + 1.6 / 1.9) / 2
    assert partial_dice(logits_of([[0.5, 0.9], [0.2, 0.7]]), labels).item() == pytest.approx(expected, rel=1e-12)


def test_a_class_without_annotated_pixels_counts_nothing():
    """Only the target: y = .5, t = 1: 1 - 2 * .5 / (.25 + 1)."""
    labels = torch.tensor([[[1, 255]]])
    assert partial_dice(logits_of([[0.5, 0.1]]), labels).item() == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_a_loop_over_the_annotated_pixels_of_the_batch(classes):
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(3, classes, 4, 5)), rng.integers(0, classes + 1, (3, 1, 4, 5))
    labels[labels == classes] = -1
    y, terms = softmax(z, axis=1), []
    for c in range(classes):
        overlap = size = 0.0
        for b, i, j in np.ndindex(3, 4, 5):
            if labels[b, 0, i, j] != -1:
                t = float(labels[b, 0, i, j] == c)
                overlap += y[b, c, i, j] * t
                size += y[b, c, i, j] ** 2 + t**2
        terms.append(1 - 2 * overlap / size)
    found = partial_dice(torch.from_numpy(z), torch.from_numpy(labels), ignore_index=-1)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_a_perfect_prediction_costs_nothing():
    certain = torch.tensor([50.0, -50.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert partial_dice(certain, torch.zeros(1, 3, 3, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)


def test_nothing_annotated_is_zero_with_a_graph():
    logits = torch.randn(2, 2, 3, 3, requires_grad=True)
    loss = partial_dice(logits, torch.full((2, 3, 3), 255))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_the_gradient_is_that_of_finite_differences():
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[[0, 2], [255, 0]]])
    assert torch.autograd.gradcheck(lambda z: partial_dice(z, labels), (logits,))


@pytest.mark.parametrize(
    "labels, message",
    [
        (torch.zeros(1, 3, 3), "labels must be integer"),
        (torch.zeros(1, 2, 2, dtype=torch.long), r"labels of shape \(1, 2, 2\) does not match logits"),
        (torch.full((1, 3, 3), 2), "label 2 is not a class of logits with 2 channels"),
    ],
)
def test_labels_that_fit_no_logits_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        partial_dice(torch.zeros(1, 2, 3, 3), labels)
