"""The ways of learning beside the paper's own, trained through the bundle on a tiny phantom."""

import json

import mlflow
import monai
import pytest
import torch

from cvm_monai.networks.factory import build_network

from .conftest import SMALL, TRAIN

TERMS = {
    "mixmatch": ("mixed_ce", "mixed_brier"),
    "uncertainty_aware_mean_teacher": ("partial_ce", "consistency"),
    "dual_branch": ("partial_ce", "pseudo_label_dice"),
}


@pytest.mark.ci
@pytest.mark.parametrize("supervision", TERMS)
def test_a_method_trains_through_the_bundle_and_its_loss_falls(phantom, tmp_path, supervision):
    settings = SMALL | {"max_epochs": 12, "learning_rate": 0.01, "supervision": supervision}
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), **settings)
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    build_network("unet", channels=SMALL["network_channels"]).load_state_dict(state)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["knobs"]["supervision"]) == ("FINISHED", supervision)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns.db")
    history = {
        name: [entry.value for entry in client.get_metric_history(record["mlflow_run_id"], name)]
        for name in (*(f"train_{term}" for term in TERMS[supervision]), "val_partial_ce", "val_dice")
    }
    print(supervision, history)
    supervised = history[f"train_{TERMS[supervision][0]}"]
    assert len(supervised) == 12
    assert sum(supervised[-3:]) < 0.8 * sum(supervised[:3])
    assert min(history["val_partial_ce"][-3:]) < history["val_partial_ce"][0]
