"""The trainer's iteration: terms, their sum, the step they lead to, and the sentence that ends a run that diverges."""

import math

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import nn

from cvm_monai.engines import PointTrainer, WeightAverage
from cvm_monai.supervision.base import Supervision


class Scripted(Supervision):
    """Two terms of the network's only weight, w: w^2 and 3 w; not finite at the image value -1."""

    name = "scripted"

    def __init__(self):
        self.steps = []
        self.prepared = []

    def prepare(self, network, optimizer):
        self.prepared.append((network, optimizer))

    def loss(self, network, batch):
        w = network.weight.sum()
        return {"square": w**2, "line": 3 * w + (torch.log(batch["image"].sum()) * 0 if network.training else 0)}

    def after_step(self, network, iteration):
        self.steps.append((iteration, network.weight.item()))


def trainer_of(batches, *, max_epochs=1, rate=0.1, **options):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    method = Scripted()
    average = WeightAverage(network=network, decay=0.5) if options.pop("averaged", False) else None
    trainer = PointTrainer(
        supervision=method,
        average=average,
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=rate),
        **options,
    )
    method.average = average
    return trainer, network, method


def batch(value=1.0, *cases):
    return {"image": torch.full((1, 3), value), "case_id": list(cases)}


def test_output_holds_each_term_and_their_sum_as_floats():
    trainer, _, _ = trainer_of([batch()])
    trainer.run()
    assert trainer.state.output == [{"loss": 10.0, "square": 4.0, "line": 6.0}]
    assert all(type(value) is float for value in trainer.state.output[0].values())


def test_each_step_follows_the_gradient_of_the_sum_and_is_told_to_the_supervision():
    trainer, network, method = trainer_of([batch(), batch()])
    trainer.run()
    first = 2 - 0.1 * (2 * 2 + 3)
    second = first - 0.1 * (2 * first + 3)
    assert [step for step, _ in method.steps] == [1, 2]
    assert [w for _, w in method.steps] == pytest.approx([first, second])
    assert network.weight.item() == pytest.approx(second)


def test_an_average_follows_each_step():
    trainer, _, method = trainer_of([batch(), batch()], averaged=True)
    trainer.run()
    first, second = (w for _, w in method.steps)
    expected = 3 / 12 * (2 / 11 * 2 + 9 / 11 * first) + 9 / 12 * second
    assert method.average.weights()["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_handlers_within_an_iteration_see_its_own_output():
    trainer, _, method = trainer_of([batch(), batch()])
    seen = []
    for event in (
        IterationEvents.LOSS_COMPLETED,
        IterationEvents.BACKWARD_COMPLETED,
        IterationEvents.MODEL_COMPLETED,
        Events.ITERATION_COMPLETED,
    ):
        trainer.add_event_handler(event, lambda engine: seen.append(engine.state.output[0]["square"]))
    trainer.run()
    assert seen == pytest.approx([4.0] * 4 + [method.steps[0][1] ** 2] * 4)


def test_the_network_trains_in_training_mode_after_a_validation_left_it_in_eval():
    trainer, network, _ = trainer_of([batch()], max_epochs=2)
    modes = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: network.eval())
    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, lambda _: modes.append(network.training))
    trainer.run()
    assert modes == [True, True]


def test_a_loss_that_is_not_finite_names_epoch_step_terms_and_cases():
    good, bad = batch(1.0, "case-1", "case-2"), batch(-1.0, "case-3", "ä/4")
    trainer, network, method = trainer_of([good, bad], max_epochs=3)
    message = (
        r"the loss is not finite in epoch 1, step 2 \(square=1\.69, line=nan; cases case-3, ä/4\): "
        r"lower --learning_rate or look at these images; the last good checkpoint is kept"
    )
    with pytest.raises(ValueError, match=message):
        trainer.run()
    assert len(method.steps) == 1
    assert math.isfinite(network.weight.item())  # the bad step was not made


def test_mixed_precision_on_a_cpu_is_bfloat16_and_still_learns():
    class Convolution(Scripted):
        def loss(self, network, batch):
            out = network(batch["image"][:, :1])
            self.dtype = out.dtype
            return {"square": (out**2).mean()}

    trainer, network, _ = trainer_of([batch()], amp=True)
    trainer.supervision = Convolution()
    trainer.run()
    assert trainer.supervision.dtype == torch.bfloat16
    assert trainer.state.output[0]["loss"] == pytest.approx(4.0)
    assert network.weight.item() == pytest.approx(2 - 0.1 * 4, rel=1e-2)


def test_the_supervision_is_prepared_once_before_anything_runs():
    trainer, network, method = trainer_of([batch()], max_epochs=2)
    assert method.prepared == [(network, trainer.optimizer)]
    trainer.run()
    assert len(method.prepared) == 1
