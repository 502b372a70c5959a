"""The paper's two settings: their values, and a dry run of each at reduced size."""

import csv
import json

import monai
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from cvm_monai.bundle_files import read_config
from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.folds import split
from cvm_monai.knobs import TRAINING

from .conftest import BUNDLE, TRAIN

SHARED = {
    "batch_size": 1,
    "crop_size": 0,
    "eta": 0.6,
    "lam": 2.0,
    "solver": "aos",
    "iterations": 5,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
}
PAPER = {
    "camelyon16": {"network": "two_component", "pairs": 3, "point_size": 1, "max_epochs": 30},
    "colorectal": {"network": "unet", "pairs": 5, "point_size": 3, "max_epochs": 50},
}
MEMORY = {"camelyon16": {"extraction": "checkpointed"}, "colorectal": {}}
"""What the paper does not state and no number depends on."""
RULES = read_config(BUNDLE / "configs" / "paper.yaml")
REDUCED = {"network_channels": [4, 8, 8, 8, 8], "max_epochs": 1, "device": "cpu", "validate#renewal#workers": 1}
SIDE = {"camelyon16": 256, "colorectal": 96}


def configs(name: str, *further: str) -> list[str]:
    return [TRAIN, *(str(BUNDLE / "configs" / f"{part}.yaml") for part in (name, *further))]


@pytest.fixture(scope="module", params=PAPER)
def setting(request, tmp_path_factory):
    """A setting's name, and a phantom for it."""
    folder = tmp_path_factory.mktemp("data") / request.param
    assert main(["phantom", str(folder), "--cases", "8", "--size", str(SIDE[request.param])]) == 0
    return request.param, str(folder)


@pytest.mark.parametrize("name", PAPER)
def test_a_setting_holds_the_paper_s_values_and_knobs_only(name):
    values = read_config(BUNDLE / "configs" / f"{name}.yaml")
    expected = SHARED | PAPER[name] | MEMORY[name] | RULES
    assert {key: values[key] for key in expected} == expected
    assert set(values) <= set(TRAINING)
    assert all(value is None for key, value in values.items() if key not in expected)


@pytest.mark.ci
def test_a_dry_run_trains_is_recorded_and_evaluates(setting, tmp_path):
    name, dataset = setting
    output = str(tmp_path / "run")
    monai.bundle.run("training", config_file=configs(name), dataset_dir=dataset, output_dir=output, **REDUCED)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "FINISHED"
    expected = SHARED | PAPER[name] | {"max_epochs": 1, "network_channels": [4, 8, 8, 8, 8]}
    assert {key: record["knobs"][key] for key in expected} == expected
    monai.bundle.run("evaluating", config_file=configs("evaluate"), output_dir=output, device="cpu")
    with (tmp_path / "run" / "evaluation" / "per_case.csv").open() as stream:
        assert {int(row["n_pixels"]) for row in csv.DictReader(stream)} == {SIDE[name] ** 2}


@pytest.mark.ci
def test_an_image_goes_in_whole_with_its_points_as_published(setting, tmp_path):
    """Camelyon: each of 3 pairs is one pixel of the map at 1/16; colorectal: each of 5 pairs is 3 x 3 pixels."""
    name, dataset = setting
    workflow = ConfigWorkflow(
        config_file=configs(name),
        workflow_type="train",
        logging_file=False,
        dataset_dir=dataset,
        output_dir=str(tmp_path),
        tracking_uri="none",
        **REDUCED,
    )
    workflow.initialize()
    get = workflow.parser.get_parsed_content
    side, stride = SIDE[name], {"camelyon16": 16, "colorectal": 1}[name]
    training = {case.case_id for case in split(read_datalist(dataset), fold=0, seed=0).train}
    seen = []
    for batch in get("train#dataloader"):
        assert batch["image"].shape == (1, 3, side, side)
        assert batch["label"].shape == (1, 1, side // stride, side // stride)
        seen += batch["case_id"]
    assert sorted(seen) == sorted(training) != []
    assert {item["case_id"] for item in get("renewal_dataset")} == training
    for item in get("renewal_dataset"):
        label, reach = item["label"][0], {"camelyon16": 0, "colorectal": 1}[name]
        points = {1: item["in_points"], 0: item["out_points"]}
        assert [len(part) for part in points.values()] == [PAPER[name]["pairs"]] * 2
        drawn = torch.full((2, *label.shape), False)
        for value, part in points.items():
            for row, column in part:
                drawn[value, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
        only = drawn[0] ^ drawn[1]
        assert np.array_equal(label[only] == 1, drawn[1][only])
        assert (label[~drawn.any(dim=0)] == 255).all()
        assert (label[drawn.any(dim=0)] != 255).sum() >= only.sum() > 0
