"""Which trainings of the page keep the frozen features of their images, and for how long."""

from types import SimpleNamespace

import pytest

from cvm_monai.annotate import kept_features
from cvm_monai.annotate.dataset import make_dataset
from cvm_monai.annotate.kept_features import BYTES, feature_folder, remove_features


@pytest.fixture
def run(client, tmp_path):
    """A run folder with the data set of one image of 96 x 64 px."""
    client.click("a")
    folder = tmp_path / "run"
    return folder, make_dataset(client.workspace.project, client.workspace.annotated(), folder)


@pytest.mark.parametrize(
    "learner, chosen, kept",
    [
        ("pretrained", {}, True),
        ("pretrained", {"max_epochs": 3, "supervision": "partial_ce"}, True),
        ("network", {}, False),
        ("pretrained", {"stain_jitter": 0.1}, False),
        ("pretrained", {"supervision": "mixmatch"}, False),
    ],
)
def test_features_are_kept_where_every_epoch_sees_the_same_images(run, learner, chosen, kept):
    folder, data = run
    assert feature_folder(folder, data, learner=learner, chosen=chosen) == (folder / "features" if kept else None)


@pytest.mark.parametrize("room, kept", [(1.0, True), (0.99, False)])
def test_features_are_not_kept_where_they_would_take_more_than_a_quarter_of_the_free_disk(run, monkeypatch, room, kept):
    folder, data = run
    free = room * 4 * 96 * 64 * BYTES
    monkeypatch.setattr(kept_features.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    assert (feature_folder(folder, data, learner="pretrained", chosen={}) is not None) == kept


def test_the_room_is_that_of_the_images_as_the_training_sees_them(run, monkeypatch):
    folder, data = run
    monkeypatch.setattr(kept_features.shutil, "disk_usage", lambda place: SimpleNamespace(free=4 * 48 * 32 * BYTES))
    assert feature_folder(folder, data, learner="pretrained", chosen={}) is None
    assert feature_folder(folder, data, learner="pretrained", chosen={"scale": 0.5}) == folder / "features"


def test_only_the_features_are_removed(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name / "features").mkdir(parents=True)
        (tmp_path / name / "features" / "x.npy").write_bytes(b"x")
        (tmp_path / name / "run.json").write_text("{}")
    remove_features(tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")) == [
        "first/run.json",
        "second/run.json",
    ]
