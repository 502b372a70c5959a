"""Which validation is a new low, and what the best model's file survives."""

import math
import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from cvm_monai.data.stain import ColourMoments, StainTarget, stored_method, stored_target
from cvm_monai.engines import BestModelSaver, LowestMetric, lower_is_better
from cvm_monai.engines.selection import SelectionEvents, in_words


def validate(engine: Engine, epoch: int, score: float) -> None:
    """One validation as MONAI's ValidationHandler runs it: as the epoch `epoch` of the evaluator."""
    engine.scores = score
    engine.state.max_epochs, engine.state.epoch = epoch, epoch - 1
    engine.run([0], max_epochs=epoch)


def evaluator_with(*handlers) -> Engine:
    engine = Engine(lambda *_: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(score=e.scores))
    for handler in handlers:
        handler.attach(engine)
    return engine


def new_lows(selection: LowestMetric, scores: list[float], *, first_epoch: int = 1) -> list[int]:
    engine, fired = evaluator_with(selection), []
    engine.add_event_handler(SelectionEvents.NEW_LOW, lambda e: fired.append(e.state.epoch))
    for epoch, score in enumerate(scores, start=first_epoch):
        validate(engine, epoch, score)
    return fired


@pytest.mark.parametrize(
    "scores, epochs",
    [
        ([3.0, 2.0, 2.5, 2.0, 1.9], [1, 2, 5]),
        ([math.nan, 2.0, math.nan, 1.0, -math.inf, 1.0, 0.5], [2, 4, 7]),
        ([math.inf, 5.0], [2]),
        ([1.0, 1.0, 2.0], [1]),
        ([0.5, -0.5, 0.0], [1, 2]),
    ],
)
def test_the_event_fires_exactly_at_finite_new_lows(scores, epochs):
    selection = LowestMetric(metric="score")
    assert new_lows(selection, scores) == epochs
    assert selection.epoch == epochs[-1]
    assert selection.best == scores[epochs[-1] - 1]


def test_a_resumed_selection_remembers_its_best():
    before = LowestMetric(metric="score")
    new_lows(before, [3.0, 2.0])
    assert before.state_dict() == {"best": 2.0, "epoch": 2}
    after = LowestMetric(metric="score")
    after.load_state_dict(before.state_dict())
    assert new_lows(after, [2.5, 1.5], first_epoch=3) == [4]


def test_lower_is_better_for_monai():
    assert lower_is_better(1.0, 2.0)
    assert not lower_is_better(2.0, 2.0)
    assert not lower_is_better(math.nan, 2.0)


def saver(folder: Path) -> tuple[nn.Module, BestModelSaver, Engine]:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    saves = BestModelSaver(network=network, path=folder / "models" / "model.pt")
    return network, saves, evaluator_with(LowestMetric(metric="score"), saves)


def test_by_the_last_epoch_the_file_is_that_of_the_newest_validation_whatever_its_score(tmp_path):
    network, path = nn.Conv2d(1, 1, 1, bias=False), tmp_path / "model.pt"
    saves = BestModelSaver(network=network, path=path, selection="last")
    engine = evaluator_with(LowestMetric(metric="score"), saves)
    for epoch, score in enumerate([2.0, 1.0, math.nan, 3.0], start=1):
        nn.init.constant_(network.weight, float(epoch))
        validate(engine, epoch, score)
        assert torch.load(path, weights_only=True)["weight"].item() == epoch


def test_a_selection_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="selection must be one of lowest, last, got 'best'"):
        BestModelSaver(network=nn.Identity(), path=tmp_path / "model.pt", selection="best")


@pytest.mark.parametrize(
    "selection, words",
    [
        ("lowest", "lowest partial cross-entropy on validation points"),
        ("last", "the last epoch"),
    ],
)
def test_reports_say_what_was_selected(selection, words):
    assert in_words(selection) == words


def test_the_file_is_a_plain_state_dict_of_the_best_epoch(tmp_path):
    network, saves, engine = saver(tmp_path)
    for epoch, (score, weight) in enumerate([(2.0, 1.0), (1.0, 2.0), (3.0, 3.0)], start=1):
        nn.init.constant_(network[0].weight, weight)
        validate(engine, epoch, score)
    state = torch.load(saves.path, weights_only=True)
    assert set(state) == set(network.state_dict())
    assert (state["0.weight"] == 2.0).all()
    assert "1.running_var" in state
    assert [path.name for path in saves.path.parent.iterdir()] == ["model.pt"]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    _, saves, engine = saver(tmp_path)
    validate(engine, 1, 2.0)
    old = saves.path.read_bytes()

    def full(descriptor):
        os.truncate(descriptor, 8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        validate(engine, 2, 1.0)
    assert saves.path.read_bytes() == old
    assert [path.name for path in saves.path.parent.iterdir()] == ["model.pt"]


def test_the_best_weights_come_back_where_the_file_is_newer_or_gone(tmp_path):
    network, saves, engine = saver(tmp_path)
    validate(engine, 1, 2.0)
    state, old = saves.state_dict(), saves.path.read_bytes()
    with torch.no_grad():
        network[0].weight.add_(1)
    validate(engine, 2, 1.0)
    assert saves.path.read_bytes() != old
    saves.load_state_dict(state)
    assert saves.path.read_bytes() == old
    saves.path.unlink()
    saves.load_state_dict(state)
    assert saves.path.read_bytes() == old


def test_the_stain_target_is_saved_beside_the_weights_and_a_former_one_removed(tmp_path):
    target = StainTarget("reinhard", ColourMoments(torch.zeros(3).numpy(), torch.ones(3).numpy()), images=1)
    path = tmp_path / "models" / "model.pt"
    network = nn.Linear(1, 1)
    BestModelSaver(network=network, path=path, stain=target)(Engine(lambda *_: None))
    assert stored_target(folder=path.parent, method="reinhard").reference.spread.tolist() == [1, 1, 1]
    BestModelSaver(network=network, path=path)(Engine(lambda *_: None))
    assert stored_method(folder=path.parent) == "none"
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]
