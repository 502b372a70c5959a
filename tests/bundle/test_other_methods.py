"""The ways of learning beside the paper's own, trained through the bundle on a tiny phantom."""

import json

import mlflow
import monai
import pytest
import torch
from monai.bundle import ConfigWorkflow

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
    settings = SMALL | {"max_epochs": 40, "learning_rate": 0.01, "supervision": supervision}
    settings["method_constants#mixmatch#weight"] = 1.0  # 75 is too much for five images
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
    supervised = history[f"train_{TERMS[supervision][0]}"]
    assert len(supervised) == 40
    assert sum(supervised[-5:]) < 0.85 * sum(supervised[:5])
    assert min(history["val_partial_ce"]) < 0.75 * history["val_partial_ce"][0]
    assert max(history["val_dice"]) > history["val_dice"][0] + 0.2
    assert all(len(values) == 40 for values in history.values())


@pytest.mark.ci
def test_the_average_that_was_validated_is_the_model_that_is_saved(phantom, tmp_path):
    """`evaluating` reads model.pt; on the validation part it must give the recorded score of the best epoch."""
    settings = SMALL | {"max_epochs": 3, "supervision": "mixmatch", "learning_rate": 0.01, "selection": "lowest"}
    workflow = ConfigWorkflow(
        config_file=TRAIN,
        workflow_type="train",
        logging_file=False,
        dataset_dir=phantom,
        output_dir=str(tmp_path),
        tracking_uri="none",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    get = workflow.parser.get_parsed_content
    network, method, evaluator = get("net"), get("method"), get("validate#evaluator")
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    selection = next(handler for handler in get("validate#handlers") if type(handler).__name__ == "LowestMetric")
    assert not all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())
    method.average.load_state_dict(saved)
    evaluator.run(1)
    assert evaluator.state.metrics["val_partial_ce"] == pytest.approx(selection.best, rel=1e-6)
