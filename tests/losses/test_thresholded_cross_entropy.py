"""Cross-entropy to u > 0.5: worked out by hand, against numpy, and what does not count."""

import math

import numpy as np
import pytest
import torch

from cvm_monai.losses import thresholded_cross_entropy


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def u() -> torch.Tensor:
    return torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def everywhere(u: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(u, dtype=torch.bool)


def test_three_pixels_by_hand() -> None:
    """z1 - z0 = log 3, so that y is 3/4; u is 0.51 (target), 0.5 and 0 (background): -(log 3/4 + 2 log 1/4) / 3."""
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(3)] * 3]).reshape(1, 2, 1, 3)
    u = torch.tensor([0.51, 0.5, 0.0]).reshape(1, 1, 3)
    expected = (math.log(4 / 3) + 2 * math.log(4)) / 3
    assert float(thresholded_cross_entropy(logits, u, valid=everywhere(u))) == pytest.approx(expected, rel=1e-6)


def test_of_three_classes_the_largest_u_teaches_where_all_are_known() -> None:
    """Softmax is (1/6, 2/6, 3/6) at both pixels; the largest u is class 1; the second pixel does not know class 0."""
    logits = torch.log(torch.tensor([1.0, 2.0, 3.0])).reshape(1, 3, 1, 1).expand(1, 3, 1, 2)
    u = torch.tensor([[0.3, -1.0], [0.4, 0.0], [0.3, 1.0]]).reshape(1, 3, 1, 2)
    assert float(thresholded_cross_entropy(logits, u, valid=u >= 0)) == pytest.approx(math.log(3), rel=1e-6)


def test_how_sure_u_is_does_not_matter(logits: torch.Tensor, u: torch.Tensor) -> None:
    mask = (u > 0.5).double()
    sure, unsure = (thresholded_cross_entropy(logits, m, valid=everywhere(u)) for m in (mask, 0.45 + 0.1 * mask))
    assert float(sure) == float(unsure) == float(thresholded_cross_entropy(logits, u, valid=everywhere(u)))


def test_equals_numpy_on_the_valid_pixels_and_teaches_no_other(logits: torch.Tensor, u: torch.Tensor) -> None:
    valid = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(2)) > 0.4
    z, keep = (logits[:, 1] - logits[:, 0]).numpy(), valid[:, 0].numpy()
    signs = np.where(u[:, 0].numpy() > 0.5, 1, -1)
    expected = np.logaddexp(0, -signs * z)[keep].mean()
    logits.requires_grad_()
    loss = thresholded_cross_entropy(logits, torch.where(valid, u, math.nan), valid=valid)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(logits.grad.abs().sum(dim=1).numpy() > 0, keep)


def test_without_valid_pixels_it_is_zero_with_a_graph(logits: torch.Tensor, u: torch.Tensor) -> None:
    logits.requires_grad_()
    loss = thresholded_cross_entropy(logits, u, valid=~everywhere(u))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_wrong_arguments_are_refused(logits: torch.Tensor, u: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="logits, u and valid must have one shape"):
        thresholded_cross_entropy(torch.zeros(2, 3, 3, 4), u, valid=everywhere(u))
    with pytest.raises(ValueError, match=r"u of shape \(1, 1, 3, 4\) does not match logits of shape \(2, 2, 3, 4\)"):
        thresholded_cross_entropy(logits, u[:1], valid=everywhere(u))
    with pytest.raises(ValueError, match=r"valid must be bool, not torch\.float64"):
        thresholded_cross_entropy(logits, u, valid=u)
    with pytest.raises(ValueError, match="u must be a number wherever it is valid, not NaN"):
        thresholded_cross_entropy(logits, u * math.nan, valid=everywhere(u))
