"""A network that begins anew in mid-training: what it gets back, what stays, and a kill before, at and after it."""

import copy

import pytest
import torch
from ignite.engine import Events

from cvm_monai.engines.restarts import restart_epochs

from .test_resume import Training, differences, seeds_as_they_were  # noqa: F401  the last is a fixture


@pytest.mark.parametrize(
    ("count", "max_epochs", "epochs"), [(0, 5, []), (1, 60, [31]), (1, 3, [2]), (2, 7, [3, 5]), (3, 4, [2, 3, 4])]
)
def test_a_training_is_cut_in_equal_shares(count, max_epochs, epochs):
    assert restart_epochs(count=count, max_epochs=max_epochs) == epochs


def test_more_shares_than_epochs_are_refused():
    with pytest.raises(ValueError, match="--restarts 4 divides the training into 5 parts, and --max_epochs is 4"):
        restart_epochs(count=4, max_epochs=4)


def states(training: Training) -> dict:
    """What begins anew."""
    parts = {name: getattr(training, name).state_dict() for name in ("network", "supervision", "average")}
    return copy.deepcopy(parts | {"moments": training.optimizer.state_dict()["state"]})


@pytest.mark.parametrize("method", ["partial_ce", "uncertainty_aware_mean_teacher", "dual_branch", "mixmatch"])
def test_weights_teachers_averages_and_moments_begin_anew_and_pseudo_labels_and_the_lowest_score_stay(tmp_path, method):
    training = Training(tmp_path / "run", method=method, restarts=1, knobs={"max_epochs": 4})
    at = {}
    training.trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: at.update({e.state.epoch: states(training)}))
    training.trainer.add_event_handler(
        Events.EPOCH_STARTED(once=3), lambda e: at.update(kept=(training.store.version, training.lowest.best))
    )
    training.run()
    assert differences(at[1], at[3]) == []
    assert differences(at[1]["network"], at[2]["network"])
    assert differences(at[3]["network"], at[4]["network"])
    assert at[2]["moments"]
    assert at["kept"] == (2, 0.5)
    assert training.average.steps == 4


def test_without_restarts_the_network_goes_on(tmp_path):
    training = Training(tmp_path / "run", knobs={"max_epochs": 4})
    first = copy.deepcopy(training.network.state_dict())
    training.trainer.add_event_handler(
        Events.EPOCH_STARTED(every=2), lambda e: first.update(same=torch.equal(first["out.weight"], current(training)))
    )
    training.run()
    assert first["same"] is False


def current(training: Training) -> torch.Tensor:
    return training.network.state_dict()["out.weight"]


@pytest.mark.parametrize(
    "method, killed",
    [
        *(("partial_ce", epoch) for epoch in (2, 3, 4)),
        ("uncertainty_aware_mean_teacher", 3),
        *(pytest.param("uncertainty_aware_mean_teacher", epoch, marks=pytest.mark.ci) for epoch in (2, 4)),
    ],
)
def test_a_training_killed_before_at_and_after_a_restart_goes_on_to_the_bit(tmp_path, method, killed):
    settings = {"method": method, "restarts": 1, "knobs": {"max_epochs": 4}}
    straight = Training(tmp_path / "straight", **settings).run()
    Training(tmp_path / "killed", **settings).killed_in(killed)
    resumed = Training(tmp_path / "killed", **settings).run()
    assert differences(straight.result(), resumed.result()) == []
