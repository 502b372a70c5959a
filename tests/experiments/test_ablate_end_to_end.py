"""`cvm-monai ablate` for real, on a phantom of 64 px: both losses trained in processes, resumed, reported."""

import json

import mlflow
import pytest

from cvm_monai.cli.main import main

from .test_compare_end_to_end import SMALL


@pytest.mark.ci
@pytest.mark.usefixtures("drawn")
def test_both_losses_are_trained_resumed_and_reported(phantom, tmp_path, capfd):
    output = tmp_path / "out"
    words = ["ablate", str(phantom), "--what", "pairs", "--values", "2", "--output", str(output), "--folds", "2",
             "--only", "0", "--jobs", "1", *SMALL]  # fmt: skip
    assert main(words) == 0
    captured = capfd.readouterr()
    assert captured.err.count("done   ") == 3
    assert "# Pairs of points (Figure 3a)" in captured.out
    runs = output / "runs"
    losses = {}
    for arm in ("2_pairs_weighted_KL", "2_pairs_cross_entropy", "2_pairs_partial_CE"):
        folder = runs / arm / "fold0_seed0"
        knobs = json.loads((folder / "run.json").read_text())["knobs"]
        assert knobs["pairs"] == 2
        assert (folder / "evaluation" / "per_case.csv").is_file()
        losses[arm] = json.loads((folder / "config.json").read_text())["method_constants"]["cvm"]["pseudo_label_loss"]
    assert losses["2_pairs_weighted_KL"] == "weighted_kl"
    assert losses["2_pairs_cross_entropy"] == "cross_entropy"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlruns.db")
    found = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert sum("train_weighted_kl" in run.data.metrics for run in found) == 1
    assert sum("train_pseudo_ce" in run.data.metrics for run in found) == 1
    assert (output / "ablation.png").is_file()

    assert main(words) == 0
    assert "3 runs, of which 3 finished before" in capfd.readouterr().out
    assert main([*words, "--max_epochs", "3"]) == 2
    assert "max_epochs was 2 and is 3" in capfd.readouterr().err
