"""MixMatch's parts by hand, against torch's own losses and a loop over pixels."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cvm_monai.losses import brier, sharpen, soft_cross_entropy


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)


@pytest.fixture
def valid() -> torch.Tensor:
    return torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(2)) > 0.4


def test_sharpening_by_hand():
    """At T = 1/2: (.8, .2) becomes (.64, .04) / .68; (.5, .5) and (1, 0) stay."""
    p = torch.tensor([[0.8, 0.5, 1.0], [0.2, 0.5, 0.0]]).reshape(1, 2, 1, 3)
    expected = torch.tensor([[0.64 / 0.68, 0.5, 1.0], [0.04 / 0.68, 0.5, 0.0]]).reshape(1, 2, 1, 3)
    torch.testing.assert_close(sharpen(p, temperature=0.5), expected)


def test_temperature_1_leaves_the_probability(target):
    torch.testing.assert_close(sharpen(target, temperature=1), target)


def test_cross_entropy_of_pixels_as_samples_is_torch_s(logits, target, valid):
    rows = valid[:, 0]
    samples = (values.movedim(1, -1)[rows] for values in (logits, target))
    assert soft_cross_entropy(logits, target, valid=valid).item() == pytest.approx(
        functional.cross_entropy(*samples).item(), rel=1e-12
    )


def test_brier_equals_a_loop_over_pixels(logits, target, valid):
    squares = []
    for b, i, j in np.ndindex(2, 4, 5):
        if valid[b, 0, i, j]:
            powers = [math.exp(z) for z in logits[b, :, i, j].tolist()]
            squares += [(p / sum(powers) - t) ** 2 for p, t in zip(powers, target[b, :, i, j].tolist(), strict=True)]
    assert brier(logits, target, valid=valid).item() == pytest.approx(np.mean(squares), rel=1e-12)


def test_brier_of_one_pixel_by_hand():
    """y = (.5, .5), t = (.9, .1): .16 for each class."""
    t = torch.tensor([0.9, 0.1]).reshape(1, 2, 1, 1)
    every = torch.ones(1, 1, 1, dtype=torch.bool)
    assert brier(torch.zeros(1, 2, 1, 1), t, valid=every).item() == pytest.approx(0.16)


@pytest.mark.parametrize("loss", [brier, soft_cross_entropy])
def test_without_a_valid_pixel_it_is_zero_with_a_graph(loss, logits, target):
    logits.requires_grad_()
    value = loss(logits, target, valid=torch.zeros(2, 4, 5, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("loss", [brier, soft_cross_entropy])
def test_the_target_is_a_constant_and_half_precision_is_computed_in_float32(loss, logits, target, valid):
    target.requires_grad_()
    assert loss(logits.bfloat16().requires_grad_(), target.float(), valid=valid).dtype == torch.float32
    loss(logits.requires_grad_(), target, valid=valid).backward()
    assert target.grad is None


@pytest.mark.parametrize("loss", [brier, soft_cross_entropy])
@pytest.mark.parametrize(
    "target, valid, sentence",
    [
        (torch.rand(1, 3, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool), r"target of shape \(1, 3, 3, 3\) does not m"),
        (torch.rand(1, 2, 3, 3), torch.ones(1, 4, 3, dtype=torch.bool), r"valid of shape \(1, 4, 3\) does not match"),
        (torch.rand(1, 2, 3, 3), torch.ones(1, 3, 3), "valid must be bool, not torch.float32"),
    ],
)
def test_what_does_not_fit_is_named(loss, target, valid, sentence):
    with pytest.raises(ValueError, match=sentence):
        loss(torch.rand(1, 2, 3, 3), target, valid=valid)
