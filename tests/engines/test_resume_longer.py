"""A finished training that goes on for more epochs, where what it has learnt does not depend on how many there are."""

import pytest

from .test_resume import Training, differences, finished, seeds_as_they_were  # noqa: F401  the last is a fixture


def longer(folder, *, epochs, **options):
    return Training(folder, knobs={"max_epochs": epochs}, **options)


@pytest.mark.parametrize("kill", [False, True])
def test_more_epochs_give_the_weights_of_a_training_that_was_to_have_so_many(tmp_path, kill):
    straight = longer(tmp_path / "straight", epochs=4, method="cvm").run()
    run = longer(tmp_path / "run", epochs=2, method="cvm").run()
    assert "is finished" in finished(run)
    assert finished(run, max_epochs=4) is None
    if kill:
        longer(tmp_path / "run", epochs=4, method="cvm").killed_in(4)
    resumed = longer(tmp_path / "run", epochs=4, method="cvm").run()
    assert differences(straight.result(), resumed.result()) == []
    assert resumed.trainer.state.epoch == 4
    assert resumed.store.version == straight.store.version == 4
    assert "is finished" in finished(resumed)


def test_fewer_epochs_than_before_are_another_training(tmp_path):
    run = longer(tmp_path / "run", epochs=3).killed_in(2)
    with pytest.raises(ValueError, match="are of another training: max_epochs was 3 and is 2; give the former value"):
        finished(run, max_epochs=2)


@pytest.mark.parametrize("method", ["mixmatch", "uncertainty_aware_mean_teacher"])
def test_a_loss_that_follows_the_progress_of_the_training_cannot_go_on_for_longer(tmp_path, method):
    run = longer(tmp_path / "run", epochs=2, method=method).run()
    before = sorted(tmp_path.rglob("*"))
    sentence = (
        "are of a training of 2 epochs, and cannot be continued to 4: with this supervision the loss "
        "depends on the completed fraction of the training; give the former --max_epochs"
    )
    with pytest.raises(ValueError, match=sentence):
        finished(run, max_epochs=4)
    with pytest.raises(ValueError, match=sentence):
        longer(tmp_path / "run", epochs=4, method=method).run()
    assert sorted(tmp_path.rglob("*")) == before


def test_more_epochs_and_another_setting_are_refused_for_the_setting(tmp_path):
    run = longer(tmp_path / "run", epochs=2).run()
    with pytest.raises(ValueError, match=r"are of another training: lam was 1\.0 and is 2\.0"):
        finished(run, max_epochs=4, lam=2.0)
