"""The weighted KL of any number of classes: by hand, by SciPy, and equal to the binary one where there are two."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from cvm_monai.losses import categorical_weight, categorical_weighted_kl, uncertainty_weighted_kl


def distribution(generator, *shape) -> torch.Tensor:
    return torch.softmax(3 * torch.randn(shape, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("classes", [2, 3, 4, 17])
def test_all_classes_alike_weigh_a_quarter_whatever_their_number(classes):
    q = torch.full((1, classes, 1, 1), 1 / classes, dtype=torch.float64)
    assert categorical_weight(q, classes=classes).item() == pytest.approx(0.25, rel=1e-12)


def test_a_certain_class_weighs_one_and_two_of_three_alike_weigh_as_their_entropy_says():
    q = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]], dtype=torch.float64).T[None, :, None]
    np.testing.assert_allclose(categorical_weight(q, classes=3)[0, 0], [1, np.exp(-2 * np.log(2) ** 2 / np.log(3))])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-7)])
def test_two_classes_are_the_binary_loss_and_its_gradient(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(3, 2, 5, 6, generator=generator, dtype=torch.float64)).to(dtype)
    u = torch.rand(3, 1, 5, 6, generator=generator, dtype=torch.float64).to(dtype)
    u[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    valid = torch.rand(3, 1, 5, 6, generator=generator) < 0.7
    one, two = (logits.clone().requires_grad_() for _ in range(2))
    binary = uncertainty_weighted_kl(one, u, valid=valid)
    many = categorical_weighted_kl(two, torch.cat([1 - u, u], 1), known=valid.expand(3, 2, 5, 6))
    binary.backward(), many.backward()
    assert many.item() == pytest.approx(binary.item(), rel=5 * tolerance)
    torch.testing.assert_close(two.grad, one.grad, rtol=10 * tolerance, atol=tolerance)


def test_three_classes_are_the_mean_of_weighted_relative_entropies():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    q = distribution(generator, 2, 3, 4, 5)
    p, y = q.numpy(), softmax(logits.numpy(), axis=1)
    entropy = -(p * np.log(p)).sum(1)
    expected = (np.exp(-2 * entropy * np.log(2) / np.log(3)) * rel_entr(p, y).sum(1)).mean()
    loss = categorical_weighted_kl(logits, q, known=torch.ones_like(q, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_class_that_is_not_known_is_neither_pushed_nor_pulled():
    """Class 2 of three is unknown: the loss is the binary one of the others, and its logit has no gradient."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    u = torch.rand(1, 1, 4, 4, generator=generator, dtype=torch.float64)
    q = torch.cat([1 - u, u, torch.full_like(u, -1)], 1)
    loss = categorical_weighted_kl(logits, q, known=q >= 0)
    loss.backward()
    assert loss.item() == pytest.approx(uncertainty_weighted_kl(logits[:, :2], u).item(), rel=1e-12)
    assert (logits.grad[:, 2] == 0).all()
    assert (logits.grad[:, :2] != 0).any()


def test_pixels_without_two_known_classes_do_not_count():
    logits = torch.tensor([[1.0, 5.0], [0.0, -3.0], [0.5, 2.0]])[None, :, None]
    q = torch.tensor([[0.2, torch.nan], [0.3, torch.nan], [0.5, 1.0]])[None, :, None]
    known = torch.tensor([[True, False], [True, False], [True, True]])[None, :, None]
    both = categorical_weighted_kl(logits, q, known=known)
    alone = categorical_weighted_kl(logits[..., :1], q[..., :1], known=known[..., :1])
    torch.testing.assert_close(both, alone)


def test_without_anything_known_the_loss_is_zero_with_a_graph():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = categorical_weighted_kl(logits, torch.full((1, 3, 2, 2), -1.0), known=torch.zeros(1, 3, 2, 2).bool())
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([1e4, -1e4, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    q = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    loss = categorical_weighted_kl(logits, q, known=torch.ones(1, 3, 1, 1).bool())
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad.flatten().tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"q": torch.ones(1, 2, 2, 2)}, r"logits, q and known must have one shape \(B, C, H, W\), got \(1, 3, 2, 2\)"),
        ({"known": torch.ones(1, 3, 2, 2)}, "known must be bool, not torch.float32"),
        ({"q": torch.full((1, 3, 2, 2), 0.5)}, "q must lie in .* and sum to 1"),
        ({"q": torch.full((1, 3, 2, 2), torch.nan)}, "q must lie in .* without NaN"),
    ],
)
def test_what_does_not_fit_is_refused(changes, sentence):
    arguments = {"q": torch.full((1, 3, 2, 2), 1 / 3), "known": torch.ones(1, 3, 2, 2).bool()} | changes
    with pytest.raises(ValueError, match=sentence):
        categorical_weighted_kl(torch.zeros(1, 3, 2, 2), arguments["q"], known=arguments["known"])
