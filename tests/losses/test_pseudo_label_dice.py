"""The pseudo-label that two predictions make, and its Dice loss, by hand and against a NumPy loop."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cvm_monai.losses import mixed_pseudo_label, pseudo_label_dice


def logits_of(target: list[list[float]]) -> torch.Tensor:
    """(1, 2, H, W) logits whose softmax gives these probabilities of the target."""
    one = torch.tensor(target, dtype=torch.float64)
    return torch.stack([torch.log(1 - one), torch.log(one)])[None]


def test_two_by_two_by_hand():
    """y1 = (.5, .9; .2, .5), t = (1, 1; 0, 0).

    Target: 2 * 1.4 / (.25 + .81 + .04 + .25 + 2); background, with y0 = (.5, .1; .8, .5): 2 * 1.3 / (.25 + .01 + .64 +
    .25 + 2).
    """
    labels = torch.tensor([[[1, 1], [0, 0]]])
    expected = 1 - (2.8 / 3.35 + 2.6 / 3.15) / 2
    found = pseudo_label_dice(logits_of([[0.5, 0.9], [0.2, 0.5]]), labels)
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_a_loop_over_the_batch(classes):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, classes, 4, 5))
    labels = rng.integers(0, classes, (3, 1, 4, 5))
    y = softmax(z, axis=1)
    scores = []
    for c in range(classes):
        overlap = size = 0.0
        for b, i, j in np.ndindex(3, 4, 5):
            t = float(labels[b, 0, i, j] == c)
            overlap += y[b, c, i, j] * t
            size += y[b, c, i, j] ** 2 + t**2
        scores.append(1 - (2 * overlap + 1e-5) / (size + 1e-5))
    found = pseudo_label_dice(torch.from_numpy(z), torch.from_numpy(labels))
    assert found.item() == pytest.approx(np.mean(scores), rel=1e-12)


def test_a_perfect_prediction_and_an_absent_class_cost_nothing():
    certain = torch.tensor([50.0, -50.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert pseudo_label_dice(certain, torch.zeros(1, 3, 3, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share, expected", [(1.0, [[1, 0]]), (0.0, [[0, 1]]), (0.6, [[1, 0]]), (0.4, [[0, 1]])])
def test_the_share_decides_where_two_predictions_differ(share, expected):
    """.9 against .1, and .3 against .7: at .6 the mixtures are .58 and .46, at .4 they are .42 and .54."""
    first, second = logits_of([[0.9, 0.3]]), logits_of([[0.1, 0.7]])
    assert mixed_pseudo_label(first, second, share=share).tolist() == [expected]


def test_the_pseudo_label_has_no_graph():
    first = logits_of([[0.9]]).requires_grad_()
    assert not mixed_pseudo_label(first, first, share=0.5).requires_grad


def test_gradient_is_the_finite_difference():
    z = torch.randn(2, 2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[[0, 1, 1], [0, 0, 1]], [[1, 1, 0], [0, 1, 0]]])
    assert torch.autograd.gradcheck(lambda values: pseudo_label_dice(values, labels), z)


def test_half_precision_is_computed_in_float32():
    loss = pseudo_label_dice(torch.zeros(1, 2, 3, 3).bfloat16(), torch.ones(1, 3, 3, dtype=torch.long))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    "labels, sentence",
    [
        (torch.zeros(1, 3, 3), "labels must be integer, not torch.float32"),
        (torch.zeros(1, 2, 3, dtype=torch.long), r"labels of shape \(1, 2, 3\) does not match logits of shape"),
        (torch.full((1, 3, 3), 255), "labels must lie in 0 to 1, the classes of the logits"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        pseudo_label_dice(torch.zeros(1, 2, 3, 3), labels)
