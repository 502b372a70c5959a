"""The weighted KL against a loop over pixels, scipy's relative entropy, torch's BCE, and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr
from torch.nn import functional

from cvm_monai.losses import entropy_weight, pixel_entropy, uncertainty_weighted_kl


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def u() -> torch.Tensor:
    drawn = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn[0, 0, :2] = torch.tensor([0.0, 1.0])
    return drawn


def two_logits(s: float) -> torch.Tensor:
    """One pixel with z1 - z0 = s."""
    return torch.tensor([-s / 2, s / 2]).reshape(1, 2, 1, 1)


@pytest.mark.parametrize(
    "value, weight", [(0.5, 0.25), (0.25, 0.325), (0.75, 0.325), (0.1, 0.522), (0.0, 1.0), (1.0, 1.0)]
)
def test_weights_by_hand(value: float, weight: float) -> None:
    assert float(entropy_weight(torch.tensor(value))) == pytest.approx(weight, abs=5e-4)


def test_entropy_is_in_nats() -> None:
    entropy = pixel_entropy(torch.tensor([0.0, 0.5, 1.0]))
    assert entropy.tolist() == pytest.approx([0.0, math.log(2), 0.0])


def test_one_pixel_by_hand() -> None:
    """u = 1/4, prediction 1/2: w = exp(-2 * 0.56234) = 0.3248, KL = log 2 - 0.56234 = 0.13081."""
    assert float(uncertainty_weighted_kl(two_logits(0.0), torch.full((1, 1, 1), 0.25))) == pytest.approx(
        0.32478 * 0.13081, rel=1e-4
    )


def test_equals_a_loop_over_pixels(logits: torch.Tensor, u: torch.Tensor) -> None:
    terms = []
    for z, target in zip(logits.movedim(1, -1).reshape(-1, 2).tolist(), u.flatten().tolist(), strict=True):
        y = math.exp(z[1]) / (math.exp(z[0]) + math.exp(z[1]))
        pairs = [(p, q) for p, q in ((target, y), (1 - target, 1 - y)) if p > 0]
        entropy = -sum(p * math.log(p) for p, _ in pairs)
        terms.append(math.exp(-2 * entropy) * sum(p * math.log(p / q) for p, q in pairs))
    assert float(uncertainty_weighted_kl(logits, u)) == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_equals_relative_entropy_of_scipy(logits: torch.Tensor, u: torch.Tensor) -> None:
    y, p = expit((logits[:, 1] - logits[:, 0]).numpy()), u.numpy()
    weight = np.exp(2 * (rel_entr(p, 1) + rel_entr(1 - p, 1)))
    expected = (weight * (rel_entr(p, y) + rel_entr(1 - p, 1 - y))).mean()
    assert float(uncertainty_weighted_kl(logits, u[:, None])) == pytest.approx(expected, rel=1e-10)


def test_equals_cross_entropy_minus_entropy_when_every_weight_is_equal(logits: torch.Tensor) -> None:
    u = torch.full((2, 3, 4), 0.2, dtype=torch.float64)
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    bce = functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], u)
    expected = math.exp(-2 * entropy) * (float(bce) - entropy)
    assert float(uncertainty_weighted_kl(logits, u)) == pytest.approx(expected, rel=1e-12)


def test_gradient_is_w_times_prediction_minus_u_over_the_valid_pixels(logits: torch.Tensor, u: torch.Tensor) -> None:
    valid = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2)) > 0.4
    logits.requires_grad_()
    u.requires_grad_()
    uncertainty_weighted_kl(logits, u, valid=valid).backward()
    s = (logits[:, 1] - logits[:, 0]).detach()
    expected = entropy_weight(u.detach()) * (torch.sigmoid(s) - u.detach()) / valid.sum() * valid
    torch.testing.assert_close(logits.grad[:, 1], expected)
    torch.testing.assert_close(logits.grad[:, 0], -expected)
    assert u.grad is None


def test_gradient_against_finite_differences(logits: torch.Tensor, u: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(lambda z: uncertainty_weighted_kl(z, u), logits.requires_grad_())


def test_is_zero_where_the_prediction_is_u_and_positive_elsewhere(u: torch.Tensor) -> None:
    inside = u.clamp(0.05, 0.95)
    exact = torch.stack([torch.zeros_like(inside), torch.logit(inside)], dim=1)
    assert float(uncertainty_weighted_kl(exact, inside)) == pytest.approx(0, abs=1e-14)
    assert float(uncertainty_weighted_kl(exact + torch.tensor([0.0, 0.1])[None, :, None, None], inside)) > 1e-5


@pytest.mark.parametrize("s", [1e4, -1e4])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_extreme_logits_stay_finite(s: float, target: float) -> None:
    """At |s| = 1e4 the cross-entropy is |s| times the part of u on the other side, and the gradient w (0 or 1 - u)."""
    logits = two_logits(s).requires_grad_()
    loss = uncertainty_weighted_kl(logits, torch.full((1, 1, 1, 1), target))
    loss.backward()
    weight = 0.25 if target == 0.5 else 1.0
    wrong = 1 - target if s > 0 else target
    entropy = math.log(2) if target == 0.5 else 0.0
    assert loss.item() == pytest.approx(weight * (1e4 * wrong - entropy))
    assert float(logits.grad[0, 1]) == pytest.approx(weight * ((s > 0) - target))


def test_pixels_without_pseudo_label_do_not_count(logits: torch.Tensor, u: torch.Tensor) -> None:
    valid = torch.zeros(2, 3, 4, dtype=torch.bool)
    valid[0, 1, 2] = valid[1, 0, 0] = True
    expected = (
        uncertainty_weighted_kl(logits[:1, :, 1:2, 2:3], u[:1, 1:2, 2:3])
        + uncertainty_weighted_kl(logits[1:, :, :1, :1], u[1:, :1, :1])
    ) / 2
    spoilt = torch.where(valid, u, math.nan)
    logits.requires_grad_()
    loss = uncertainty_weighted_kl(logits, spoilt, valid=valid[:, None])
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(logits.grad.abs().sum(dim=1) > 0, valid)


def test_without_valid_pixels_it_is_zero_with_a_graph(logits: torch.Tensor, u: torch.Tensor) -> None:
    logits.requires_grad_()
    loss = uncertainty_weighted_kl(logits, u, valid=torch.zeros(2, 3, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Logits of +-40000 fit float16; their difference does not."""
    big = torch.tensor([-40000.0, 40000.0], dtype=dtype).reshape(1, 2, 1, 1)
    loss = uncertainty_weighted_kl(big, torch.zeros(1, 1, 1, dtype=dtype))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(80000, rel=0.01)
    assert pixel_entropy(torch.full((1,), 0.5, dtype=dtype)).item() == pytest.approx(math.log(2))


def test_wrong_arguments_are_refused(logits: torch.Tensor, u: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="defined for 2 classes, not 3"):
        uncertainty_weighted_kl(torch.zeros(2, 3, 3, 4), u)
    with pytest.raises(ValueError, match=r"u of shape \(1, 3, 4\) does not match logits of shape \(2, 2, 3, 4\)"):
        uncertainty_weighted_kl(logits, u[:1])
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\]"):
        uncertainty_weighted_kl(logits, u + 0.5)
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\] wherever it is valid, without NaN"):
        uncertainty_weighted_kl(logits, u * math.nan)
    with pytest.raises(ValueError, match=r"valid must be bool, not torch\.float64"):
        uncertainty_weighted_kl(logits, u, valid=u)
