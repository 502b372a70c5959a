"""The moving average of the weights that train, against its closed form."""

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from cvm_monai.engines import WeightAverage


def network_of(value: float) -> nn.Module:
    network = nn.BatchNorm1d(1)
    nn.init.constant_(network.weight, value)
    return network


def trained(average: WeightAverage, network: nn.Module, weights: list[float]) -> None:
    """One step of a trainer to each of the weights; the running mean is ten times the weight."""

    def step(engine: Engine, value: float) -> None:
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(10 * value)
        network.num_batches_tracked += 1
        engine.fire_event(IterationEvents.MODEL_COMPLETED)

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    average.attach(engine)
    engine.run(weights)


def test_it_follows_the_closed_form_with_the_decay_of_few_steps_first():
    """Decays min(0.3, (1 + s) / (10 + s)): 2/11, 3/12, then 0.3 (4/13 is above it)."""
    network = network_of(1.0)
    average = WeightAverage(network=network, decay=0.3)
    trained(average, network, [2.0, 4.0, 8.0])
    first = 2 / 11 * 1 + 9 / 11 * 2
    second = 3 / 12 * first + 9 / 12 * 4
    weights = average.weights()
    assert weights["weight"].item() == pytest.approx(0.3 * second + 0.7 * 8, rel=1e-6)
    start = 2 / 11 * 0 + 9 / 11 * 20
    assert weights["running_mean"].item() == pytest.approx(0.3 * (0.25 * start + 0.75 * 40) + 0.7 * 80, rel=1e-6)
    assert weights["num_batches_tracked"].item() == 3
    assert network.weight.item() == 8


def test_without_a_decay_there_is_no_average():
    network = network_of(1.0)
    average = WeightAverage(network=network, decay=0.0)
    trained(average, network, [2.0])
    assert average.weights() is None
    assert average.steps == 0


def test_it_goes_on_from_its_state():
    averages = []
    for steps in ([2.0, 3.0, 4.0], [2.0, 3.0]):
        network = network_of(1.0)
        averages.append(WeightAverage(network=network, decay=0.9))
        trained(averages[-1], network, steps)
    whole, part = averages
    resumed = WeightAverage(network=network, decay=0.9)
    resumed.load_state_dict(part.state_dict())
    trained(resumed, network, [4.0])
    assert all(torch.equal(value, resumed.weights()[name]) for name, value in whole.weights().items())


@pytest.mark.parametrize("decay", [-0.1, 1.5, "much"])
def test_a_decay_out_of_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"average_decay must lie in \[0, 1\], got"):
        WeightAverage(network=network_of(1.0), decay=decay)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match="average_decay must be below 1"):
        WeightAverage(network=network_of(1.0), decay=1)


def test_it_begins_from_the_weights_that_the_network_has_when_the_training_starts():
    """Processes are joined between the making of an average and the first step: one of them had other weights."""
    network = network_of(5.0)
    average = WeightAverage(network=network, decay=0.3)
    nn.init.constant_(network.weight, 1.0)  # as the first process broadcasts it
    trained(average, network, [2.0])
    assert average.weights()["weight"].item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2, rel=1e-6)


def test_an_average_that_was_taken_up_again_does_not_begin_anew():
    network = network_of(9.0)
    average = WeightAverage(network=network, decay=0.3)
    state = average.state_dict()
    average.load_state_dict({"steps": 1, "average": {**state["average"], "weight": torch.tensor([3.0])}})
    trained(average, network, [4.0])
    assert average.weights()["weight"].item() == pytest.approx(3 / 12 * 3 + 9 / 12 * 4, rel=1e-6)
