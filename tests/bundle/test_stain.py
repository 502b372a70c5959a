"""Stain normalisation from the training's images to the inference's, and what an evaluation says of stain shifts."""

import csv
import shutil
from pathlib import Path

import monai
import numpy as np
import pytest
from PIL import Image

from cvm_monai.data.fold_parts import case_records
from cvm_monai.data.stain import fit_target
from cvm_monai.inference import load_network, load_stain, predict
from cvm_monai.slides import read_image

from .conftest import EVALUATE, INFERENCE, SMALL, TRAIN

QUICK = SMALL | {"max_epochs": 1, "supervision": "partial_ce", "tracking_uri": "none"}
FACTORS = [0.8, 1.25]


@pytest.fixture(scope="module")
def normalised(phantom, tmp_path_factory):
    """The output folder of a training by Macenko's normalisation, evaluated."""
    output = str(tmp_path_factory.mktemp("stain"))
    settings = QUICK | {"stain_normalisation": "macenko"}
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=output, **settings)
    changes = {"stain_shifts": FACTORS, "device": "cpu", "tracking_uri": "none"}
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=output, **changes)
    return output


def test_the_target_is_fitted_on_the_training_cases_alone(normalised, phantom):
    records = case_records(dataset_dir=phantom, part="train", fold=0, seed=0)
    expected = fit_target([read_image(record["image"]) for record in records], method="macenko")
    found = load_stain(normalised)
    assert found.images == expected.images == len(records)
    np.testing.assert_allclose(found.reference.vectors, expected.reference.vectors)
    np.testing.assert_allclose(found.reference.strongest, expected.reference.strongest)


def test_inference_finds_the_target_by_itself(normalised, phantom):
    monai.bundle.run("inference", config_file=INFERENCE, dataset_dir=phantom, output_dir=normalised, device="cpu")
    record = case_records(dataset_dir=phantom, part="test", fold=0, seed=0)[0]
    image, network = read_image(record["image"]), load_network(normalised)
    found = np.asarray(Image.open(f"{normalised}/prediction/{record['case_id']}_probability.png"))
    np.testing.assert_array_equal(found, np.rint(255 * predict(network, image, stain=load_stain(normalised))))
    assert (found != np.rint(255 * predict(network, image))).any()


def test_the_evaluation_sees_normalised_images_and_shifts_them_before(normalised, phantom):
    summary = (Path(normalised) / "evaluation" / "summary.md").read_text()
    assert "- stain normalisation: macenko" in summary
    assert "## Dice under stain shifts" in summary
    with open(f"{normalised}/evaluation/stain_shift.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["factor"]) for row in rows] == [0.8, 1.0, 1.25] * 2
    with open(f"{normalised}/evaluation/per_case.csv", newline="") as stream:
        dice = [float(row["dice"]) for row in csv.DictReader(stream) if row["dice"]]
    assert float(rows[1]["dice_mean"]) == float(rows[4]["dice_mean"]) == pytest.approx(np.mean(dice), abs=1e-6)


def test_a_target_that_was_lost_ends_in_one_sentence(normalised, phantom, tmp_path, capsys):
    shutil.copy(Path(normalised) / "run.json", tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(Path(normalised) / "models" / "model.pt", tmp_path / "models")
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run(
            "inference", config_file=INFERENCE, dataset_dir=phantom, output_dir=str(tmp_path), device="cpu"
        )
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: the network was trained with --stain_normalisation macenko, but ")
    assert "stain.json is missing" in last


def test_factors_out_of_range_end_in_one_sentence(normalised, capsys):
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=normalised, device="cpu", stain_shifts=[0])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "error: --stain_shifts must be a list of numbers above 0, or [] for none, got [0]"
