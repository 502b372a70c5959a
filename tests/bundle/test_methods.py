"""Every way of learning trains through the bundle."""

import json

import mlflow
import monai
import pytest

from .conftest import SMALL, TRAIN


@pytest.mark.ci
@pytest.mark.parametrize(
    "supervision, falls",
    [
        ("contrast_map", "train_partial_ce"),  # its u gets surer with the features, and the term of u can rise
        ("direct_variational", "train_partial_ce"),  # its u moves with the network's own output
        ("crf", "train_total"),
        ("peng", "train_total"),
    ],
)
def test_a_training_of_each_method_lowers_its_loss(phantom, tmp_path, supervision, falls):
    settings = SMALL | {"max_epochs": 8, "learning_rate": 0.01, "stain_jitter": 0.0, "supervision": supervision}
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), **settings)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "FINISHED"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlruns.db")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    values = [entry.value for entry in client.get_metric_history(run.info.run_id, falls) if entry.value]
    assert len(values) >= 7
    assert sum(values[-3:]) < 0.97 * sum(values[:3])
    renews = supervision in ("contrast_map", "direct_variational")
    assert (run.data.metrics.get("pseudo_label_images", 0) > 0) == renews
