"""Means of an epoch, and the line or bar that shows them."""

import io
import logging
import sys

import pytest
from ignite.engine import Engine, Events

from cvm_monai.engines import EpochMeans, LowestMetric, Progress
from cvm_monai.engines.renewal import RenewalReport
from cvm_monai.engines.selection import SelectionEvents


def training(*, enabled: bool) -> Engine:
    """Two epochs of two steps; a renewal happens in the first epoch's validation."""
    terms = {"loss": 3.0, "partial_ce": 1.0, "weighted_kl": 2.0}
    trainer = Engine(lambda engine, value: [{name: factor * value for name, factor in terms.items()}])
    validator = Engine(lambda *_: None)
    LowestMetric(metric="score").attach(validator)

    def validate(engine):
        validator.state.metrics = {"score": 0.25 / engine.state.epoch}
        if engine.state.epoch == 1:
            validator.state.renewal = RenewalReport(1, 7, {"constant": 2}, 1.25, 50.0, 0.875)
            validator.fire_event(SelectionEvents.RENEWED)

    EpochMeans().attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    Progress(validator=validator, metric="score", enabled=enabled).attach(trainer)
    trainer.run([1, 2], max_epochs=2)
    return trainer


def test_means_are_those_of_the_epoch():
    trainer = Engine(lambda engine, value: [{"loss": 2.0 * value, "term": 1.0 * value}])
    EpochMeans().attach(trainer)
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    batches = iter([1, 3, 10, 20])
    trainer.run((next(batches) for _ in range(4)), max_epochs=2, epoch_length=2)
    assert seen == [{"train_total": 4.0, "train_term": 2.0}, {"train_total": 30.0, "train_term": 15.0}]


def test_without_a_terminal_each_epoch_is_one_line(caplog):
    with caplog.at_level(logging.INFO, logger="cvm_monai.engines.progress"):
        training(enabled=False)
    first, second = (record.message for record in caplog.records if record.name == "cvm_monai.engines.progress")
    assert first.startswith(
        "epoch 1/2: partial_ce 1.5000, weighted_kl 3.0000, score 0.2500, 0.0 s, of which 7 pseudo-labels 1.2 s"
    )
    assert "Dice 0.875" in first
    assert second.startswith("epoch 2/2: partial_ce 1.5000, weighted_kl 3.0000, score 0.1250, 0.0 s, 00:00 left")
    assert "pseudo-labels" not in second


def test_with_a_terminal_each_epoch_is_one_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    training(enabled=True)
    text = screen.getvalue()
    assert "epoch 1/2: 100%" in text
    assert "epoch 2/2: 100%" in text
    assert "of which 7 pseudo-labels 1.2 s" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_shown_where_a_terminal_watches(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    assert Progress(validator=Engine(lambda *_: None), metric="score").enabled is terminal
