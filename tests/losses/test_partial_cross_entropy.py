"""Eq. 3 against a loop over pixels and torch's own criterion."""

import math

import pytest
import torch
from torch import nn

from cvm_monai.losses import partial_cross_entropy


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def labels() -> torch.Tensor:
    drawn = torch.randint(0, 4, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    return torch.where(drawn == 3, 255, drawn)


def loop(logits: torch.Tensor, labels: torch.Tensor) -> float:
    terms = []
    for b in range(labels.shape[0]):
        for r in range(labels.shape[1]):
            for c in range(labels.shape[2]):
                label = int(labels[b, r, c])
                if label != 255:
                    z = logits[b, :, r, c].tolist()
                    terms.append(math.log(sum(math.exp(v) for v in z)) - z[label])
    return sum(terms) / len(terms)


def test_equals_a_loop_over_annotated_pixels_and_torch(logits: torch.Tensor, labels: torch.Tensor) -> None:
    loss = float(partial_cross_entropy(logits, labels))
    assert loss == pytest.approx(loop(logits, labels), rel=1e-12)
    assert loss == pytest.approx(float(nn.CrossEntropyLoss(ignore_index=255)(logits, labels)), rel=1e-12)


def test_is_the_mean_over_the_batch_of_all_annotated_pixels_not_of_images() -> None:
    """One pixel of image 0 with p = 1/4, three of image 1 with p = 1/2: (2 + 3) log 2 / 4."""
    logits = torch.zeros(2, 2, 1, 3)
    logits[0, 0] = math.log(3)
    labels = torch.tensor([[[1, 255, 255]], [[0, 1, 1]]])
    assert float(partial_cross_entropy(logits, labels)) == pytest.approx(5 * math.log(2) / 4)


def test_dense_labels_give_the_full_cross_entropy(logits: torch.Tensor) -> None:
    dense = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(2))
    expected = float(nn.functional.cross_entropy(logits, dense))
    assert float(partial_cross_entropy(logits, dense)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_with_a_channel_and_of_any_integer_type(
    logits: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype
) -> None:
    assert partial_cross_entropy(logits, labels[:, None].to(dtype)) == partial_cross_entropy(logits, labels)


def test_another_ignore_index(logits: torch.Tensor, labels: torch.Tensor) -> None:
    moved = torch.where(labels == 255, -1, labels)
    assert partial_cross_entropy(logits, moved, ignore_index=-1) == partial_cross_entropy(logits, labels)


def test_without_annotated_pixels_it_is_zero_with_a_graph() -> None:
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = partial_cross_entropy(logits, torch.full((1, 3, 3), 255))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_unlabelled_pixels_get_no_gradient(logits: torch.Tensor, labels: torch.Tensor) -> None:
    logits.requires_grad_()
    partial_cross_entropy(logits, labels).backward()
    touched = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(touched, labels != 255)


def test_gradient(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(lambda z: partial_cross_entropy(z, labels), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """4096 pixels of log 2: a sum in float16 would lose it."""
    loss = partial_cross_entropy(torch.zeros(1, 2, 64, 64, dtype=dtype), torch.ones(1, 64, 64, dtype=torch.long))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2), rel=1e-6)


def test_wrong_labels_are_refused(logits: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(2, 4, 4\) does not match logits of shape \(2, 3, 4, 5\)"):
        partial_cross_entropy(logits, labels[..., :4])
    with pytest.raises(ValueError, match=r"labels must be integer, not torch\.float32"):
        partial_cross_entropy(logits, labels.float())
    with pytest.raises(ValueError, match="label 3 is not a class of logits with 3 channels and not the unlabelled 255"):
        partial_cross_entropy(logits, torch.full((2, 4, 5), 3))
    with pytest.raises(ValueError, match=r"logits must be \(B, C, H, W\), not \(3, 4, 5\)"):
        partial_cross_entropy(logits[0], labels)
