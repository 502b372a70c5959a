"""The paper's rules as a configuration behind the default one: knobs alone, which a training and a comparison take."""

import json

import monai
import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.cli.main import main
from cvm_monai.experiments.knobs import read_setting
from cvm_monai.knobs import TRAINING

from .conftest import BUNDLE, TRAIN

FILE = BUNDLE / "configs" / "paper.yaml"
VALUES = read_config(FILE)


def test_it_holds_knobs_and_the_two_settings_of_the_paper_build_on_it():
    config = read_config(BUNDLE / "configs" / "train.yaml")
    assert set(VALUES) <= set(config) & set(TRAINING)
    for name in ("camelyon16", "colorectal"):
        setting = read_config(BUNDLE / "configs" / f"{name}.yaml")
        assert {key: setting[key] for key in VALUES} == VALUES


def test_it_is_the_method_as_published():
    """Eq. 5 one-sided on raw features of the network itself, Eq. 7's mean, AOS; the validation's low selects."""
    published = {"contrast": "one_sided", "centre": "none", "combination": "mean", "evidence": "own", "solver": "aos"}
    published |= {"discriminant": 0, "eta": 0.6, "normalisation": "batch", "selection": "lowest", "average_decay": 0}
    assert {key: VALUES[key] for key in published} == published


def test_a_comparison_takes_it():
    config = read_config(BUNDLE / "configs" / "train.yaml")
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
        device="cpu",
        **{"validate#renewal#workers": 1},
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {name: record["knobs"][name] for name in VALUES} == VALUES
