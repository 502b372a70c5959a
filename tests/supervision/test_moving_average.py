"""The moving average against its closed form, the ramps against values by hand, the views against their inverse."""

import math

import pytest
import torch
from torch import nn

from cvm_monai.networks import build_network
from cvm_monai.supervision.moving_average import MovingAverage
from cvm_monai.supervision.schedule import gaussian_ramp, linear_ramp, progress_of
from cvm_monai.supervision.views import jitter_colours, per_channel, turn


class OneWeight(nn.Module):
    """A weight, a running statistic and a counter."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("running", torch.tensor([value]))
        self.register_buffer("steps", torch.tensor(0))

    def become(self, value, steps):
        self.weight.data.fill_(value)
        self.running.fill_(value)
        self.steps.fill_(steps)


def test_the_average_follows_its_closed_form():
    """a_n = d^n a_0 + (1 - d) sum_k d^(n - k) w_k."""
    network, decay, values = OneWeight(3.0), 0.8, [1.0, -2.0, 0.5, 4.0]
    average = MovingAverage(network, buffers="average")
    for step, value in enumerate(values, start=1):
        network.become(value, step)
        average.update(network, decay=decay)
    n = len(values)
    expected = decay**n * 3 + (1 - decay) * sum(decay ** (n - k) * w for k, w in enumerate(values, start=1))
    assert average.network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert average.network.running.item() == pytest.approx(expected, rel=1e-6)
    assert average.network.steps.item() == n  # a counter is not averaged


def test_buffers_may_be_copied():
    network = OneWeight(1.0)
    average = MovingAverage(network, buffers="copy")
    network.become(5.0, 1)
    average.update(network, decay=0.75)
    assert (average.network.weight.item(), average.network.running.item()) == (2.0, 5.0)
    network.become(7.0, 2)
    assert average.network.running.item() == 5.0  # a copy, not the same storage


@pytest.mark.parametrize("decay, expected", [(0.0, 5.0), (1.0, 1.0)])
def test_decay_0_copies_and_1_stays(decay, expected):
    network = OneWeight(1.0)
    average = MovingAverage(network, buffers="average")
    network.become(5.0, 1)
    average.update(network, decay=decay)
    assert average.network.weight.item() == expected


def test_the_average_has_no_gradient_and_leaves_the_network_s():
    network = OneWeight(1.0)
    average = MovingAverage(network, buffers="copy")
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert network.weight.requires_grad


def test_the_state_of_a_real_network_goes_and_comes_back():
    first = MovingAverage(build_network("unet", channels=(4, 4, 4, 4, 4)), buffers="copy")
    second = MovingAverage(build_network("unet", channels=(4, 4, 4, 4, 4)), buffers="copy")
    assert not torch.equal(*(next(iter(one.state_dict().values())) for one in (first, second)))
    second.load_state_dict(first.state_dict())
    for found, expected in zip(second.state_dict().values(), first.state_dict().values(), strict=True):
        assert torch.equal(found, expected)


def test_an_unknown_rule_for_the_buffers_is_named():
    with pytest.raises(ValueError, match=r"buffers must be one of \('copy', 'average'\), got 'keep'"):
        MovingAverage(OneWeight(1.0), buffers="keep")


def test_ramps_by_hand():
    assert [progress_of(epoch=epoch, max_epochs=4) for epoch in (1, 2, 4)] == [0, 0.25, 0.75]
    assert [linear_ramp(x, 0.4) for x in (0, 0.1, 0.4, 0.9)] == pytest.approx([0, 0.25, 1, 1])
    assert [gaussian_ramp(x, 0.4) for x in (0, 0.2, 0.4, 1)] == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])


@pytest.mark.parametrize("quarters", range(4))
def test_a_turn_and_its_opposite_leave_the_map(quarters):
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    turned = turn(values, quarters)
    assert turned.shape[-2:] == ((3, 4) if quarters % 2 == 0 else (4, 3))
    assert torch.equal(turn(turned, -quarters), values)


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def test_jitter_of_nothing_changes_nothing():
    rgb = torch.rand(2, 3, 4, 5)
    images = (rgb - per_channel(MEAN, rgb)) / per_channel(STD, rgb)
    torch.testing.assert_close(jitter_colours(images, mean=MEAN, std=STD, amount=0.0), images)


def test_jitter_is_each_image_s_own_and_stays_in_range():
    torch.manual_seed(0)
    rgb = torch.rand(1, 3, 4, 5).repeat(2, 1, 1, 1)
    images = (rgb - per_channel(MEAN, rgb)) / per_channel(STD, rgb)
    changed = jitter_colours(images, mean=MEAN, std=STD, amount=0.4) * per_channel(STD, rgb) + per_channel(MEAN, rgb)
    assert not torch.allclose(changed[0], changed[1], atol=0.02)
    assert changed.min() > -1e-6
    assert changed.max() < 1 + 1e-6


def test_jitter_of_a_grey_image_is_its_brightness_within_the_amount():
    """Contrast and saturation change nothing on an even grey."""
    torch.manual_seed(0)
    rgb = torch.full((200, 3, 2, 2), 0.5)
    images = (rgb - per_channel(MEAN, rgb)) / per_channel(STD, rgb)
    changed = jitter_colours(images, mean=MEAN, std=STD, amount=0.4) * per_channel(STD, rgb) + per_channel(MEAN, rgb)
    factors = changed[:, 0, 0, 0] / 0.5
    assert 0.6 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.4
    torch.testing.assert_close(changed, factors[:, None, None, None] * rgb, atol=1e-5, rtol=0)


def test_values_for_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"3 values for images of 4 channels: \[0.5, 0.4, 0.3\]"):
        per_channel(MEAN, torch.zeros(1, 4, 2, 2))
