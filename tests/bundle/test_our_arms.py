"""The methods beyond the paper's table, trained, evaluated and used through the bundle on a tiny phantom."""

import csv
import json

import mlflow
import monai
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from torch import nn
from torch.nn import functional

from cvm_monai.inference import load_network

from .conftest import EVALUATE, INFERENCE, SMALL, TRAIN


class Colours(nn.Module):
    """Mean and mean square of each channel over squares of 8 pixels, (B, 6, H / 8, W / 8)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(torch.cat([x, x**2], dim=1), 8)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """The file of an extractor that knows what tells the phantom's classes apart."""
    path = tmp_path_factory.mktemp("extractor") / "colours.pt"
    torch.jit.script(Colours()).save(str(path))
    return str(path)


def history(output, name):
    """The values of a metric, epoch by epoch."""
    record = json.loads((output / "run.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlruns.db")
    return [entry.value for entry in client.get_metric_history(record["mlflow_run_id"], name)]


@pytest.mark.ci
@pytest.mark.parametrize(
    "knobs, term",
    [
        ({"supervision": "strong_partial_ce"}, "train_total"),
        (
            {
                "supervision": "partial_ce",
                "network": "frozen_probe",
                "network_channels": None,
                "learning_rate": 0.03,
                "augmentation": "standard",
                "stain_jitter": 0.1,
            },
            "train_partial_ce",  # one linear layer from small weights: it takes larger steps
        ),
        ({"supervision": "frozen_cvm"}, "train_weighted_kl"),
        ({"supervision": "partial_ce", "network": "frozen_two_component"}, "train_partial_ce"),
    ],
    ids=["strong_partial_ce", "frozen_linear_probe", "frozen_cvm", "frozen_two_component"],
)
def test_a_training_lowers_its_loss_and_is_evaluated_and_used(phantom, extractor, tmp_path, knobs, term):
    output = tmp_path / "run"
    settings = SMALL | {"max_epochs": 40, "learning_rate": 0.01} | knobs
    if "strong" not in knobs["supervision"]:
        settings["extractor_path"] = extractor
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(output), **settings)
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert record["knobs"]["augmentation"] == knobs.get("augmentation", "full")
    values = [value for value in history(output, term) if value]
    assert len(values) >= 38  # a first renewal waits until half of its cost is earned, see `renew_share`
    assert sum(values[-5:]) < 0.9 * sum(values[:5])
    if knobs["supervision"] == "frozen_cvm":
        assert len(history(output, "pseudo_label_images")) == 1  # renewed once
        assert history(output, "pseudo_label_images")[0] > 0

    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(output), device="cpu")
    with (output / "evaluation" / "per_case.csv").open() as stream:
        assert {row["n_pixels"] for row in csv.DictReader(stream)} == {"4096"}
    monai.bundle.run("inference", config_file=INFERENCE, dataset_dir=phantom, output_dir=str(output), device="cpu")
    assert Image.open(next((output / "prediction").glob("*_mask.png"))).size == (64, 64)
    image = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        size = (5, 7) if knobs.get("network") == "frozen_two_component" else (40, 50)  # the extractor's stride is 8
        assert load_network(output)(image).shape == (1, 2, *size)


REPEATED = {"crop_size": 0, "batch_size": 1, "stain_jitter": 0, "pen_marks": 0, "tracking_uri": "none"}


@pytest.mark.ci
@pytest.mark.parametrize("augmentation, forms", [("none", 1), ("flips", 8)])
def test_a_training_on_stored_features_is_the_same_and_fills_the_store_once(
    phantom, extractor, tmp_path, augmentation, forms
):
    settings = SMALL | REPEATED | {"network": "frozen_two_component", "extractor_path": extractor}
    settings |= {"augmentation": augmentation, "supervision": "cvm"}
    store, weights, counts = tmp_path / "features", [], []
    for name in ("without", "empty", "full"):
        output = tmp_path / name
        folder = {} if name == "without" else {"feature_store": str(store)}
        monai.bundle.run(
            "training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(output), **settings, **folder
        )
        weights.append(torch.load(output / "models" / "model.pt", weights_only=True))
        counts.append({file: file.stat().st_mtime_ns for file in store.rglob("*.npy")})
    for other in weights[1:]:
        for key, value in weights[0].items():
            torch.testing.assert_close(other[key], value, atol=1e-6, rtol=0)
    datalist = json.loads((tmp_path / "full" / "datalist.json").read_text())
    seen = [case for case in datalist["cases"] if case["fold"] != 0]
    assert len(seen) <= len(counts[1]) <= forms * len(seen)
    assert counts[1] == counts[2]  # nothing was computed again


def transforms_of(phantom, output, **changes):
    """Names of the random transforms of a training, in their order."""
    workflow = ConfigWorkflow(
        config_file=TRAIN,
        workflow_type="train",
        logging_file=False,
        dataset_dir=phantom,
        output_dir=str(output),
        **(SMALL | {"tracking_uri": "none"} | changes),
    )
    workflow.initialize()
    transforms = workflow.parser.get_parsed_content("train#preprocessing").transforms
    return [type(transform).__name__ for transform in transforms if type(transform).__name__.startswith("Rand")]


STANDARD = ["RandCropToPointsd", "RandFlipd", "RandRotate90d", "RandStainJitterd", "RandPenMarkd", "RandColourJitterd"]
FULL = [*STANDARD[:3], "RandAffineMapsd", *STANDARD[3:], "RandGaussianSmoothd", "RandGaussianNoised"]
UNSTAINED = [name for name in STANDARD if name != "RandStainJitterd"]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, FULL),
        ({"supervision": "strong_partial_ce"}, FULL),
        ({"augmentation": "standard"}, STANDARD),
        ({"augmentation": "standard", "stain_jitter": 0}, UNSTAINED),
        ({"augmentation": "standard", "pen_marks": 0}, [name for name in STANDARD if name != "RandPenMarkd"]),
        ({"augmentation": "flips"}, STANDARD[:5]),
        ({"augmentation": "none", "stain_jitter": 0, "pen_marks": 0}, STANDARD[:1]),
    ],
)
def test_each_augmentation_has_its_transforms_and_all_methods_share_the_full_one(phantom, tmp_path, changes, expected):
    assert transforms_of(phantom, tmp_path, **changes) == expected


def test_the_full_augmentation_gives_batches_that_the_losses_take(phantom, tmp_path):
    workflow = ConfigWorkflow(
        config_file=TRAIN,
        workflow_type="train",
        logging_file=False,
        dataset_dir=phantom,
        output_dir=str(tmp_path),
        **(SMALL | {"tracking_uri": "none", "augmentation": "full"}),
    )
    workflow.initialize()
    loader = workflow.parser.get_parsed_content("train#dataloader")
    assert len(loader) == 2
    for _ in range(4):
        for batch in loader:
            assert batch["image"].dtype == torch.float32
            assert batch["image"].isfinite().all()
            assert batch["label"].dtype == batch["mask"].dtype == torch.uint8
            assert set(np.unique(batch["label"])) <= {0, 1, 255}
            assert all((label != 255).any() for label in batch["label"])
            assert batch["pseudo_label"].unique().tolist() == [-1.0]
