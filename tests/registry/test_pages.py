"""MLflow's pages of a model, its versions and its run name each other, and say what a user must know."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from cvm_monai.registry import RegistrationRequest, register
from cvm_monai.registry.pages import headline, version_description
from cvm_monai.registry.trained import Trained

TAGS = {
    "classes": "background, target",
    "um_per_px": "0.5",
    "scale": "1.0",
    "stain": "H|E",
    "stain_normalisation": "none",
    "supervision": "cvm",
    "network": "unet",
    "fold": "3",
    "data_sha256": "0123456789abcdef",
}
TESTS = {
    "test_dice": 0.81234,
    "test_dice_sd": 0.26,
    "test_dice_images": 3.0,
    "test_auc": 0.9,
    "test_pooled_dice": 0.8,
    "test_pooled_precision": 1.0,
    "test_stain_lowest_dice": 0.5,
}


@pytest.fixture
def client(store):
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


def trained(**knobs) -> Trained:
    return Trained(Path("run"), Path("run/models/model.pt"), {"knobs": knobs}, ("background", "target"))


def test_a_version_is_described_by_a_line_and_a_table():
    assert version_description(trained(mpp=0.5), tests=TESTS, tags=TAGS).splitlines() == [
        "cvm, unet, test Dice 0.812 (sd 0.26, n = 3); research only",
        "",
        "| | |",
        "|---|---|",
        "| classes | background, target |",
        "| sees images at | 0.5 um/px |",
        "| stain | H/E; normalisation: none |",
        "| trained by | cvm, network unet |",
        "| tested on | fold 3 of data list 0123456789ab |",
        "| test_dice | 0.8123 (sd 0.26, n = 3) |",
        "| test_auc | 0.9 |",
        "| recall | 0.6667, all pixels of the test together |",
        "| IoU | 0.6667, all pixels of the test together |",
    ]
    other = version_description(trained(), tests={}, tags=TAGS).splitlines()
    assert other[0] == "cvm, unet; research only"
    assert "| sees images at | 1.0 times their own size |" in other


def test_deviations_and_shifted_stains_are_no_headline():
    assert headline(TESTS) == {"test_dice": 0.81234, "test_auc": 0.9}


def test_a_version_tested_on_points_alone_says_that_it_has_no_dice():
    tests = {"test_point_balanced_accuracy": 0.9, "test_point_count": 24.0, "test_point_recall_target": 1.0}
    lines = version_description(trained(mpp=0.5), tests=tests, tags=TAGS).splitlines()
    assert lines[0] == "cvm, unet, no Dice: tested on 24 points alone, balanced accuracy 0.900; research only"
    assert "| test_point_recall_target | 1 |" in lines
    assert not any("test_dice" in line or "IoU" in line for line in lines)


def test_run_model_and_version_name_each_other(finished, client):
    tests = {"test_dice": 0.5, "test_dice_sd": 0.1, "test_auc": 0.75}
    output = finished(tests=tests)
    run_id = json.loads((output / "run.json").read_text())["mlflow_run_id"]
    before = {name: client.get_metric_history(run_id, name) for name in tests}
    done = register(RegistrationRequest(output=output, name="paged"))
    version = client.get_model_version("paged", done.version)
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    run = client.get_run(run_id)
    assert [found.model_id for found in run.outputs.model_outputs] == [model.model_id]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "paged", "version": done.version}]
    assert {metric.key: metric.value for metric in model.metrics} == {"test_dice": 0.5, "test_auc": 0.75}
    assert model.params["network"] == "unet"
    assert "/secret" not in str(model.params)
    assert model.tags["mlflow.note.content"] == version.description
    assert version.description.startswith("not known, unet, test Dice 0.500 (sd 0.1); research only\n")
    assert 'load_model("models:/paged@candidate")' in client.get_registered_model("paged").description
    after = {name: client.get_metric_history(run_id, name) for name in tests}
    assert [points(history) for history in after.values()] == [points(history) for history in before.values()]


def points(history):
    return [(point.value, point.step, point.timestamp) for point in history]


def test_a_description_of_the_user_s_stays(finished, client):
    client.create_registered_model("described", description="mine")
    register(RegistrationRequest(output=finished(), name="described"))
    assert client.get_registered_model("described").description == "mine"


def test_pages_that_cannot_be_linked_leave_the_registry_unchanged(finished, client, monkeypatch):
    def fail(*_, **__):
        raise MlflowException("no more room")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fail)
    with pytest.raises(ValueError, match=r"refused: no more room$"):
        register(RegistrationRequest(output=finished(), name="last"))
    assert client.search_registered_models("name = 'last'") == []
