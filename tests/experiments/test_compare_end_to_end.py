"""`cvm-monai compare` for real, on a phantom of 64 px: trainings in processes, resumed, nested, reported."""

import csv
import json

import mlflow
import pytest

from cvm_monai.cli.main import main
from cvm_monai.experiments.plan import parse_methods

SMALL = ["--network", "unet", "--network_channels", "[4,8,8,8,8]", "--crop_size", "64", "--max_epochs", "2"]
SMALL += ["--iterations", "5", "--device", "cpu"]


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    "methods, folds",
    [
        pytest.param(("partial_ce", "cvm"), ("0",), marks=pytest.mark.ci),
        pytest.param(("partial_ce", "cvm", "full"), ("0", "1"), marks=pytest.mark.slow),
        pytest.param([arm.name for arm in parse_methods("all")], ("0", "1"), marks=pytest.mark.slow),
    ],
    ids=["two", "three", "all"],
)
def test_methods_are_trained_resumed_and_reported(phantom, tmp_path, capfd, methods, folds):
    output, runs = tmp_path / "out", len(methods) * len(folds)
    words = ["compare", str(phantom), "--output", str(output), "--folds", "2", "--jobs", "1", *SMALL]
    assert main([*words, "--only", "0", "--methods", "partial_ce"]) == 0
    assert capfd.readouterr().err.count("done   ") == 1

    words += ["--only", ",".join(folds), "--methods", ",".join(methods)]
    assert main(words) == 0
    captured = capfd.readouterr()
    assert captured.err.count("done   ") == runs - 1
    assert f"{runs} runs, of which 1 finished before" in captured.out
    with (output / "table1.csv").open() as stream:
        lines = {line["method"]: line for line in csv.DictReader(stream)}
    assert list(lines) == [*methods]
    assert all(line["folds"] == str(len(folds)) and 0 < float(line["auc_mean"]) < 1 for line in lines.values())
    assert "data:image/png;base64," in (output / "report.html").read_text()

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlruns.db")
    parent = json.loads((output / "comparison.json").read_text())["mlflow_run_id"]
    found = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent]
    assert sorted(run.data.params["supervision"] for run in children) == sorted(len(folds) * [*methods])
    assert all("test_dice" in run.data.metrics for run in children)

    assert main([*words, "--max_epochs", "3"]) == 2
    assert "max_epochs was 2 and is 3" in capfd.readouterr().err
