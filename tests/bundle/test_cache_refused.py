"""Memory and disk that do not hold the images: the training as it is typed ends with one sentence and 2."""

from collections import namedtuple

import monai
import pytest

from cvm_monai.data import cache

from .conftest import SMALL, TRAIN

GIB = 2**30


def refused(phantom, output, capsys, **knobs):
    """The last line that a training prints, which ends with 2."""
    settings = SMALL | {"tracking_uri": "none", "supervision": "partial_ce"} | knobs
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(output), **settings)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not (output / "cache").exists() or not [*(output / "cache").rglob("*.pt")]
    return said.strip().splitlines()[-1]


def test_a_budget_below_one_image(phantom, tmp_path, capsys):
    line = refused(phantom, tmp_path, capsys, cache=1e-6)
    assert line.startswith("error: --cache 1e-06 GiB cannot hold a single image; the first takes 0.0 MiB: raise it")


def test_a_disk_without_room_for_the_images_that_are_not_held(phantom, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(0))
    line = refused(phantom, tmp_path, capsys, cache=30_000 / GIB)
    assert line.startswith("error: the images that --cache does not hold take 0.0 GiB of disk in")
    assert line.endswith("where 0.0 GiB are free: raise --cache, or put --output_dir on a larger disk")


def test_without_a_folder_the_images_that_are_not_held_are_decoded_each_time(phantom, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(0))
    settings = SMALL | {"tracking_uri": "none", "supervision": "partial_ce", "cache": 30_000 / GIB}
    settings |= {"cache_budget#folder": "$None", "max_epochs": 1}
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), **settings)
    assert (tmp_path / "models" / "model.pt").is_file()
    assert not (tmp_path / "cache").exists()
