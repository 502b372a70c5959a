"""Other weights while a validation lasts, and the network's own, bit by bit, after it."""

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from cvm_monai.engines import BestModelSaver, InferenceWeights, LowestMetric, WeightAverage
from cvm_monai.engines.selection import SelectionEvents
from cvm_monai.supervision.factory import build_supervision
from cvm_monai.supervision.partial_ce import PartialCrossEntropy


class Averaged(PartialCrossEntropy):
    """Validates twice the network's weights, as they were."""

    def __init__(self, network):
        self.state = {name: 2 * value for name, value in network.state_dict().items()}

    def inference_weights(self):
        return self.state


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def evaluator_of(network, supervision, path, step=lambda *_: None) -> Engine:
    """As in train.yaml: selection, saver, and what lends the weights last."""
    engine = Engine(step)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(score=1 / e.state.epoch))
    for handler in (
        LowestMetric(metric="score"),
        BestModelSaver(network=network, path=path),
        InferenceWeights(network=network, supervision=supervision),
    ):
        handler.attach(engine)
    return engine


def test_the_average_of_the_weights_is_validated_unless_the_supervision_has_others(network):
    average = WeightAverage(network=network, decay=0.5)
    before, after = copied(network), {}
    with torch.no_grad():
        network[0].weight.add_(1)
    average(Engine(lambda *_: None))  # the first step's decay is 2 / 11
    for method, expected in ((PartialCrossEntropy(), 9 / 11), (Averaged(network), None)):
        engine = Engine(lambda *_: after.update(copied(network)))
        InferenceWeights(network=network, supervision=method, average=average).attach(engine)
        engine.run([0])
        if expected is None:
            assert same(after, method.inference_weights())
        else:
            torch.testing.assert_close(after["0.weight"], before["0.weight"] + expected)


def test_a_validation_and_its_new_low_see_the_others_and_leave_the_own(network, tmp_path):
    own, objects = copied(network), [id(value) for value in network.parameters()]
    method, seen = Averaged(network), []
    engine = evaluator_of(network, method, tmp_path / "model.pt", lambda *_: seen.append(copied(network)))
    engine.add_event_handler(SelectionEvents.NEW_LOW, lambda _: seen.append(copied(network)))
    for epoch in (1, 2):
        engine.state.max_epochs, engine.state.epoch = epoch, epoch - 1
        engine.run([0], max_epochs=epoch)
        assert same(own, copied(network))
    assert len(seen) == 4
    assert all(same(method.state, state) for state in seen)
    assert same(method.state, torch.load(tmp_path / "model.pt", weights_only=True))
    assert [id(value) for value in network.parameters()] == objects


@pytest.mark.parametrize("name", ["partial_ce", "cvm", "full", "uncertainty_aware_mean_teacher", "dual_branch"])
def test_nothing_happens_for_methods_that_validate_the_network_itself(network, tmp_path, name):
    own, seen = copied(network), []
    engine = evaluator_of(network, build_supervision(name), tmp_path / "m.pt", lambda *_: seen.append(copied(network)))
    engine.run([0])
    assert same(own, seen[0])
    assert same(own, torch.load(tmp_path / "m.pt", weights_only=True))


def test_a_validation_that_fails_gives_the_own_weights_back(network, tmp_path):
    def fail(*_):
        raise ValueError("no such image")

    own = copied(network)
    with pytest.raises(ValueError, match="no such image"):
        evaluator_of(network, Averaged(network), tmp_path / "model.pt", fail).run([0])
    assert same(own, copied(network))
