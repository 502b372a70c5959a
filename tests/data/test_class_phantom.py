"""The phantom of three classes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.folds import case_labels
from cvm_monai.data.phantom import generate_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "phantom"
    assert main(["phantom", str(out), "--classes", "3", "--cases", "4", "--size", "96"]) == 0
    return out


def test_every_image_has_points_and_mask_of_all_three_classes(phantom):
    datalist = read_datalist(phantom)
    assert datalist.classes == {"background": 0, "target": 1, "lymphoid": 2}
    for case in datalist.cases:
        assert case_labels(case, datalist.classes) == {0, 1, 2}
        assert set(np.unique(np.array(Image.open(case.mask)))) == {0, 1, 2}


def test_the_aggregates_are_darker_than_the_rest(phantom):
    """Crowded dark nuclei: a look of their own, which the eye can check in the images."""
    for number in range(4):
        image = np.array(Image.open(phantom / "images" / f"case_{number:03d}.png").convert("L"))
        mask = np.array(Image.open(phantom / "masks" / f"case_{number:03d}.png"))
        novel = np.array(Image.open(phantom / "novel" / f"case_{number:03d}.png"))
        assert image[mask == 2].mean() < image[(mask != 2) & (novel == 0)].mean() - 10


def test_table_and_stamp_say_so(phantom):
    with (phantom / "cases.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    mask = np.array(Image.open(phantom / "masks" / "case_000.png"))
    assert float(row["aggregate_fraction"]) == pytest.approx((mask == 2).mean(), abs=1e-4)
    assert float(row["target_fraction"]) == pytest.approx((mask == 1).mean(), abs=1e-4)
    assert json.loads((phantom / "phantom.json").read_text())["classes"] == 3


def test_a_phantom_of_two_classes_says_nothing_of_classes(tmp_path):
    generate_phantom(tmp_path / "p", cases=1, size=64)
    assert "classes" not in json.loads((tmp_path / "p" / "phantom.json").read_text())
    assert "aggregate" not in (tmp_path / "p" / "cases.csv").read_text()


def test_another_number_of_classes_is_refused(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "p"), "--classes", "4"]) == 2
    assert "A phantom has 2 or 3 classes, not 4." in capsys.readouterr().err
