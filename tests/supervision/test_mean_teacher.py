"""The uncertainty-aware mean teacher on toy networks whose answers are known."""

import math

import pytest
import torch
from torch import nn

from cvm_monai.losses import partial_cross_entropy
from cvm_monai.supervision.uncertainty_aware_mean_teacher import UncertaintyAwareMeanTeacher


class PixelNetwork(nn.Module):
    """Logits from each pixel alone, so that turning the image turns the logits: logit of the target = w x."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        target = self.weight * x[:, :1]
        return torch.cat([torch.zeros_like(target), target], dim=1)


class FirstRow(PixelNetwork):
    """As before, but the first row answers 0: not the same after a turn."""

    def forward(self, x):
        keep = torch.ones_like(x[:, :1])
        keep[:, :, 0] = 0
        return super().forward(x) * keep


def batch_of(image: torch.Tensor) -> dict[str, torch.Tensor]:
    label = torch.full((image.shape[0], 1, *image.shape[-2:]), 255, dtype=torch.uint8)
    label[:, 0, 0, 0] = 1
    return {"image": image, "label": label}


def prepared(network: nn.Module, **constants) -> UncertaintyAwareMeanTeacher:
    method = UncertaintyAwareMeanTeacher(image_std=(1.0, 1.0, 1.0), **constants)
    method.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1))
    method.begin_epoch(epoch=3, max_epochs=4)  # t = 1/2: w is full
    return method


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 3, 4, 6)])
def test_a_network_that_turns_with_its_image_has_no_consistency_loss(shape):
    torch.manual_seed(0)
    network = PixelNetwork(weight=4.0)
    method = prepared(network, noise=0.0)
    for _ in range(8):  # several turns
        terms = method.loss(network, batch_of(3 * torch.randn(shape)))
        assert terms["consistency"].item() < 1e-12


def test_a_network_that_does_not_turn_has_one():
    torch.manual_seed(1)
    network = FirstRow(weight=4.0)
    losses = [
        prepared(network, noise=0.0).loss(network, batch_of(3 * torch.rand(1, 3, 4, 4) + 1))["consistency"].item()
        for _ in range(8)
    ]
    assert min(losses) < 1e-12  # not turned
    assert max(losses) > 0.01


def test_two_by_two_by_hand():
    """Student w = 1, teacher w = 2, without noise: two pixels of four are sure enough, each class counts."""
    network = PixelNetwork(weight=2.0)
    method = prepared(network, noise=0.0, weight=3.0, threshold=0.5)
    network.weight.data.fill_(1.0)
    values = [0.1, -0.2, 2.0, -1.5]
    image = torch.tensor(values).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    level = (0.5 + 0.5 * math.exp(-5 * 0.5**2)) * math.log(2)  # H of t = 1/2
    squares = []
    for x in values:
        p = sigmoid(2 * x)
        if -p * math.log(p) - (1 - p) * math.log(1 - p) < level:
            squares.append((sigmoid(x) - p) ** 2)
    assert len(squares) == 2
    terms = method.loss(network, batch_of(image))
    assert set(terms) == {"partial_ce", "consistency"}
    assert terms["consistency"].item() == pytest.approx(3 * sum(squares) / 2, rel=1e-5)
    assert terms["partial_ce"].item() == pytest.approx(-math.log(sigmoid(0.1)), rel=1e-5)


@pytest.mark.parametrize("epoch, weight", [(1, math.exp(-5)), (2, math.exp(-5 * (1 - 0.25 / 0.4) ** 2)), (3, 1.0)])
def test_the_weight_grows_until_four_tenths_of_the_training(epoch, weight):
    network = PixelNetwork(weight=4.0)
    method = prepared(network, noise=0.0, threshold=1.0)
    network.weight.data.fill_(1.0)
    batch = batch_of(torch.ones(1, 3, 2, 2))
    full = method.loss(network, batch)["consistency"].item()
    method.begin_epoch(epoch=epoch, max_epochs=4)
    assert method.loss(network, batch)["consistency"].item() == pytest.approx(weight * full, rel=1e-5)


class Listener(PixelNetwork):
    """Keeps what it is shown; a copy of it keeps its own."""

    def forward(self, x):
        self.shown = [*getattr(self, "shown", []), x]
        return super().forward(x)


def test_the_noise_is_a_tenth_of_the_intensity_range_cut_at_twice_that():
    torch.manual_seed(0)
    network = Listener()
    method = UncertaintyAwareMeanTeacher(image_std=(0.2, 0.25, 0.5))
    method.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1))
    method.loss(network, batch_of(torch.zeros(1, 3, 64, 64)))
    (seen,) = network.shown
    assert (seen == 0).all()  # the student sees no noise
    shown = method.teacher.network.shown
    assert len(shown) == 1 + 8
    noise = torch.stack(shown)[:, 0] * torch.tensor([0.2, 0.25, 0.5])[:, None, None]
    assert noise.abs().max().item() == pytest.approx(0.2, abs=1e-6)
    assert noise.std(dim=(0, 2, 3)).tolist() == pytest.approx([0.0959] * 3, abs=0.002)  # a normal one, cut at 2 sigma
    assert not torch.allclose(noise[0], noise[1])


def test_the_teacher_is_the_student_after_one_step_and_follows_then():
    network = PixelNetwork(weight=3.0)
    method = prepared(network, decay=0.6)
    weights, expected = [1.0, 2.0, 4.0, 8.0], 3.0
    for step, weight in enumerate(weights, start=1):
        network.weight.data.fill_(weight)
        method.after_step(network, step)
        decay = min(1 - 1 / step, 0.6)  # 0, .5, .6, .6
        expected = decay * expected + (1 - decay) * weight
        assert method.teacher.network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert method.inference_weights() is None  # the student is validated


def test_no_gradient_reaches_the_teacher():
    network = PixelNetwork(weight=2.0)
    method = prepared(network)
    sum(method.loss(network, batch_of(torch.randn(1, 3, 4, 4))).values()).backward()
    assert network.weight.grad is not None
    assert method.teacher.network.weight.grad is None


def test_partial_ce_is_that_of_the_student():
    network = PixelNetwork()
    batch = batch_of(torch.randn(2, 3, 4, 4))
    terms = prepared(network).loss(network, batch)
    assert terms["partial_ce"].item() == partial_cross_entropy(network(batch["image"]), batch["label"]).item()


@pytest.mark.parametrize(
    "constants, sentence",
    [
        ({"weight": -1}, "weight must be a finite number of at least 0, got -1"),
        ({"rampup": 0}, "rampup must lie in \\(0, 1\\], got 0"),
        ({"decay": 1.1}, "decay must lie in \\[0, 1\\], got 1.1"),
        ({"passes": 0}, "passes must be a whole number of at least 1, got 0"),
        ({"noise": "a"}, "noise must be a finite number of at least 0, got 'a'"),
        ({"threshold": 2}, "threshold must lie in \\[0, 1\\], got 2"),
        ({"image_std": (0.2, 0, 0.2)}, "image_std must be a finite number greater than 0, got 0"),
    ],
)
def test_bad_constants_are_named(constants, sentence):
    with pytest.raises(ValueError, match=sentence):
        UncertaintyAwareMeanTeacher(**constants)


def test_an_unknown_rule_for_the_buffers_is_named():
    with pytest.raises(ValueError, match=r"buffers must be one of \('copy', 'average'\), got 'none'"):
        UncertaintyAwareMeanTeacher(buffers="none")
