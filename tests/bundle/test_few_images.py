"""The configuration for a few dozen images of real tissue: knobs alone, which a training and a comparison take."""

import json

import monai
import pytest

from cvm_monai.cli.main import main
from cvm_monai.experiments.knobs import read_setting

from .conftest import BUNDLE, TRAIN

FILE = BUNDLE / "configs" / "few_images.json"
VALUES = json.loads(FILE.read_text())


def test_it_holds_knobs_that_differ_from_their_defaults():
    config = json.loads((BUNDLE / "configs" / "train.json").read_text())
    assert set(VALUES) <= set(config["knobs"])
    assert all(config[name] != value for name, value in VALUES.items())


def test_a_comparison_takes_it():
    config = json.loads((BUNDLE / "configs" / "train.json").read_text())
    assert set(read_setting(FILE, config)) == set(VALUES)


@pytest.mark.ci
def test_a_training_records_its_values(tmp_path):
    assert main(["phantom", str(tmp_path / "data"), "--cases", "8", "--size", "64"]) == 0
    monai.bundle.run(
        "training",
        config_file=[TRAIN, str(FILE)],
        dataset_dir=str(tmp_path / "data"),
        output_dir=str(tmp_path / "run"),
        network="unet",
        network_channels=[4, 8, 8, 8, 8],
        max_epochs=1,
        crop_size=64,
        device="cpu",
        **{"validate#renewal#workers": 1},
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {name: record["knobs"][name] for name in VALUES} == VALUES
