"""`cvm-monai compare` for real, on a phantom small enough for CI: trainings in processes, resumed, reported."""

import csv
import json

import mlflow
import pytest

from cvm_monai.cli.main import main

SMALL = ["--network", "unet", "--network_channels", "[4,8,8,8,8]", "--crop_size", "64", "--max_epochs", "2"]
SMALL += ["--iterations", "5", "--device", "cpu"]


@pytest.mark.ci
def test_three_methods_on_two_folds(phantom, tmp_path, capfd):
    output = tmp_path / "out"
    words = ["compare", str(phantom), "--output", str(output), "--methods", "partial_ce,cvm,full", "--folds", "2"]
    assert main([*words, "--only", "0", *SMALL]) == 0
    assert capfd.readouterr().err.count("done   ") == 3

    assert main([*words, *SMALL]) == 0
    captured = capfd.readouterr()
    assert captured.err.count("done   ") == 3  # the other fold alone
    assert "6 runs, of which 3 finished before" in captured.out
    with (output / "table1.csv").open() as stream:
        lines = {line["method"]: line for line in csv.DictReader(stream)}
    assert list(lines) == ["partial_ce", "cvm", "full"]
    assert all(line["folds"] == "2" and 0 < float(line["auc_mean"]) < 1 for line in lines.values())
    assert "data:image/png;base64," in (output / "report.html").read_text()

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlruns.db")
    parent = json.loads((output / "comparison.json").read_text())["mlflow_run_id"]
    runs = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
    assert sorted(run.data.params["supervision"] for run in children) == sorted(2 * ["partial_ce", "cvm", "full"])
    assert all("test_dice" in run.data.metrics for run in children)

    assert main([*words, *SMALL, "--max_epochs", "3"]) == 2
    assert "max_epochs is 2 there and 3 is asked for" in capfd.readouterr().err
