"""A data set of clicks without any mask is trained on, scored by its points and registered, and no Dice is claimed."""

import csv
import json
import shutil
from pathlib import Path

import mlflow
import monai
import pytest

from cvm_monai.cli.main import main
from cvm_monai.registry import RegistrationRequest, register
from cvm_monai.registry.promotion import find_metric

from .conftest import EVALUATE, SMALL, TRAIN


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory):
    """A training and its evaluation on the phantom's images and points."""
    folder = tmp_path_factory.mktemp("points")
    mine = folder / "mine"
    for name in ("images", "points"):
        shutil.copytree(Path(phantom) / name, mine / name)
    assert main(["prepare", str(mine), "--output", str(folder / "data")]) == 0
    settings = SMALL | {"max_epochs": 1, "supervision": "partial_ce"}
    output = folder / "run"
    monai.bundle.run(
        "training", config_file=TRAIN, dataset_dir=str(folder / "data"), output_dir=str(output), **settings
    )
    (output / "evaluation").mkdir()
    (output / "evaluation" / "dice.png").touch()  # of a former evaluation
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(output), device="cpu")
    return output


def test_the_points_of_the_test_fold_are_scored(run):
    with (run / "evaluation" / "per_case.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    cases = {case["case_id"] for case in json.loads((run / "datalist.json").read_text())["cases"] if case["fold"] == 0}
    assert {row["case_id"] for row in rows} == cases
    assert all(0 <= int(row["target_right"]) <= int(row["target_points"]) for row in rows)
    summary = (run / "evaluation" / "summary.md").read_text()
    assert "No test image has a mask: these are scores of the annotated points alone." in summary
    assert "| Dice |" not in summary
    assert sorted(file.name for file in (run / "evaluation").iterdir()) == ["per_case.csv", "run.json", "summary.md"]
    record = json.loads((run / "run.json").read_text())
    tests = (
        mlflow.MlflowClient(tracking_uri=record["mlflow_tracking_uri"]).get_run(record["mlflow_run_id"]).data.metrics
    )
    points = sum(int(row["target_points"]) + int(row["background_points"]) for row in rows)
    right = sum(int(row["target_right"]) for row in rows) / sum(int(row["target_points"]) for row in rows)
    assert tests["test_point_count"] == points
    assert tests["test_point_recall_target"] == pytest.approx(right)
    assert not any(name.startswith("test_dice") for name in tests)
    assert find_metric("point_recall_target", tests=tests, classes=("background", "target")).better == "higher"


def test_it_is_registered_without_a_dice_and_says_so(run):
    done = register(RegistrationRequest(output=run, name="clicked"))
    version = mlflow.MlflowClient(tracking_uri=done.tracking_uri).get_model_version("clicked", done.version)
    assert "no Dice: tested on" in version.description.splitlines()[0]
    assert version.tags["test_dice"] == "none: tested on points"
