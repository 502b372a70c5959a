"""Three classes through the bundle: training, evaluation, inference, and what the pseudo-labels are worth."""

import csv
import json
from types import SimpleNamespace

import monai
import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.cli.main import main
from cvm_monai.inference import load_network

from .conftest import EVALUATE, INFERENCE, SMALL, TRAIN

CLASSES = ["target", "lymphoid"]


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> SimpleNamespace:
    """Eight cases of 64 px with three classes, and a training of them."""
    folder, output = tmp_path_factory.mktemp("data") / "phantom", tmp_path_factory.mktemp("run")
    assert main(["phantom", str(folder), "--cases", "8", "--size", "64", "--classes", "3"]) == 0
    monai.bundle.run(
        "training",
        config_file=TRAIN,
        dataset_dir=str(folder),
        output_dir=str(output),
        tracking_uri="none",
        **SMALL,
    )
    return SimpleNamespace(dataset=str(folder), output=output)


def test_a_training_takes_the_number_of_classes_from_the_data_list(three):
    record = json.loads((three.output / "run.json").read_text())
    assert (record["status"], record["knobs"]["classes"]) == ("FINISHED", 3)
    assert json.loads((three.output / "datalist.json").read_text())["classes"]["lymphoid"] == 2
    network = load_network(three.output)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    pointer = json.loads((three.output / "pseudo_labels" / "current.json").read_text())
    q = np.load(three.output / "pseudo_labels" / next(iter(pointer["files"].values())))
    assert (q.shape, q.dtype) == ((3, 64, 64), np.float32)
    np.testing.assert_allclose(np.where(q >= 0, q, 0).sum(0), 1, atol=1e-6)


def test_evaluating_scores_each_class_and_their_mean(three):
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(three.output), device="cpu")
    with (three.output / "evaluation" / "per_case.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    for row in rows:
        each = [float(row[f"dice_{name}"]) for name in CLASSES if row[f"dice_{name}"]]
        assert float(row["dice"]) == pytest.approx(np.mean(each), abs=1e-6)
    text = (three.output / "evaluation" / "summary.md").read_text()
    assert all(f"## {title}" in text for title in ("Mean of the classes", *CLASSES))
    assert (three.output / "evaluation" / "cases.png").is_file()


def test_inference_writes_class_numbers_and_probabilities_where_asked(three, tmp_path):
    settings = {"dataset_dir": three.dataset, "output_dir": str(three.output), "device": "cpu"}
    settings |= {"class_probabilities": True, "prediction_dir": str(tmp_path)}
    monai.bundle.run("inference", config_file=INFERENCE, **settings)
    assert len(list(tmp_path.glob("*.png"))) == 3 * 8
    labels = np.array(Image.open(tmp_path / "case_000_mask.png"))
    p = [np.array(Image.open(tmp_path / f"case_000_probability_{number}.png")) / 255 for number in (1, 2)]
    everything = np.stack([1 - p[0] - p[1], *p])
    _, second, first = np.sort(everything, axis=0)
    sure = first - second > 0.02  # eight bits cannot tell the others apart
    assert sure.mean() > 0.25
    np.testing.assert_array_equal(labels[sure], everything.argmax(0)[sure])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"supervision": "peng"}, "error: supervision peng supports two classes only and the data have 3: use one of "),
        ({"classes": 2}, "error: --classes is 2, the data list has 3: leave it out"),
    ],
)
def test_what_does_not_suit_three_classes_ends_before_the_training(three, tmp_path, capsys, changes, sentence):
    with pytest.raises(SystemExit, match=r"^2$"):
        monai.bundle.run(
            "training",
            config_file=TRAIN,
            dataset_dir=three.dataset,
            output_dir=str(tmp_path),
            tracking_uri="none",
            **SMALL | changes,
        )
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_on_three_classes_cvm_beats_partial_ce(tmp_path, seed):
    """The phantom of 24 images at its full size, the narrow U-Net; mean test Dice of both foreground classes."""
    assert main(["phantom", str(tmp_path / "data"), "--classes", "3"]) == 0
    dice = {}
    for supervision in ("partial_ce", "cvm"):
        output = tmp_path / supervision
        monai.bundle.run(
            "training",
            config_file=TRAIN,
            dataset_dir=str(tmp_path / "data"),
            output_dir=str(output),
            tracking_uri="none",
            device="cpu",
            network="unet",
            network_channels=[16, 32, 64, 128, 128],
            supervision=supervision,
            seed=seed,
        )
        monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(output), device="cpu")
        with (output / "evaluation" / "per_case.csv").open(newline="") as stream:
            dice[supervision] = np.mean([float(row["dice"]) for row in csv.DictReader(stream)])
    assert dice["cvm"] > dice["partial_ce"] + 0.02
