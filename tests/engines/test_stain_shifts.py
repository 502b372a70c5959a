"""The stain-shift test: what it asks the network, how often, and what it writes."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvm_monai.data.stain import concentration_change, fit_target, restain
from cvm_monai.data.stain.transforms import NormaliseStaind
from cvm_monai.engines import StainShiftTest
from cvm_monai.engines.scoring import case_dice
from cvm_monai.engines.stain_shifts import report_shifts
from cvm_monai.metrics import score_classes, score_image, shift_metrics


class DarkIsTarget(nn.Module):
    """Calls a pixel target where its red is below 100; counts its calls, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        assert not self.training
        self.seen.append(x[0].clone())
        dark = (100.0 - x[:, :1]).sign() * 9
        return torch.cat([-dark, dark], 1)


def image_of(red: int) -> np.ndarray:
    """Left half red grey level 40, right half the given one; green and blue alike."""
    image = np.full((8, 8, 3), 200, dtype=np.uint8)
    image[..., 0] = red
    image[:, :4, 0] = 40
    return image


@pytest.fixture
def cases(tmp_path):
    """Records by case: the truth is the left half. Red on the right: 110 in `a`, 250 in `b`."""
    records = []
    for name in "ab":
        mask = np.zeros((8, 8), dtype=np.uint8)
        mask[:, :4] = 1
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
        records.append({"case_id": name, "mask": str(tmp_path / f"{name}.png")})
    return records


IMAGES = {"a": image_of(110), "b": image_of(250)}


def load(record):
    return {
        "case_id": record["case_id"],
        "image": torch.from_numpy(np.moveaxis(IMAGES[record["case_id"]], -1, 0).copy()),
    }


def as_float(item):
    return item | {"image": item["image"].float()}


def shift_test(network, factors, *, prepare=as_float):
    return StainShiftTest(network=network, factors=factors, load=load, prepare=prepare, device="cpu")


def test_more_haematoxylin_darkens_red_and_less_does_not(cases):
    """Red 110 falls below 100 with 1.5 times the haematoxylin: all of `a` is then called target, Dice 2/3."""
    network = DarkIsTarget().train()
    rows = shift_test(network, [1.0, 1.5, 0.8]).run(cases, unshifted={"a": 1.0, "b": 1.0})
    found = {(row.stain, row.factor): row.dice.mean for row in rows}
    assert list(found) == [(stain, factor) for stain in ("haematoxylin", "eosin") for factor in (0.8, 1, 1.5)]
    assert found["haematoxylin", 1.5] == pytest.approx((2 / 3 + 1) / 2)
    assert found["haematoxylin", 1.0] == found["haematoxylin", 0.8] == found["eosin", 1.0] == 1
    assert len(network.seen) == 8  # two stains, two factors, two cases: the factor 1 is known
    assert network.training  # as it was


def test_the_network_sees_the_shifted_image_after_all_that_prepares_it(cases):
    target = fit_target([tissue_of(0)], method="macenko")
    network, normalise = DarkIsTarget(), NormaliseStaind(target=target)
    test = StainShiftTest(
        network=network,
        factors=[0.6],
        load=lambda record: {"image": torch.from_numpy(np.moveaxis(tissue_of(1), -1, 0).copy())},
        prepare=lambda item: as_float(normalise(item)),
        device="cpu",
    )
    mask = Image.new("L", (64, 64))
    mask.save(cases[0]["mask"])
    test.run(cases[:1], unshifted={"a": 1.0})
    shifted = restain(tissue_of(1), concentration_change((0.6, 1, 1)))
    expected = normalise({"image": torch.from_numpy(np.moveaxis(shifted, -1, 0).copy())})["image"].float()
    assert torch.equal(network.seen[0], expected)


def tissue_of(seed: int) -> np.ndarray:
    amounts = np.random.default_rng(seed).gamma(1.0, 0.5, (64, 64, 2))
    return np.rint(240 * np.exp(-amounts @ [[0.56, 0.72, 0.41], [0.22, 0.80, 0.56]])).astype(np.uint8)


def test_an_undefined_dice_is_left_out_and_counted(cases):
    (row, *_) = shift_test(DarkIsTarget(), [1.0]).run(cases, unshifted={"a": 0.5, "b": float("nan")})
    assert (row.dice.mean, row.dice.n, row.dice.left_out) == (0.5, 1, 1)


def test_table_summary_figure_and_metrics_say_the_same(cases, tmp_path):
    rows = shift_test(DarkIsTarget(), [1.5]).run(cases, unshifted={"a": 1.0, "b": 1.0})
    text = report_shifts(rows, tmp_path / "evaluation")
    with (tmp_path / "evaluation" / "stain_shift.csv").open(newline="") as stream:
        table = {(row["stain"], row["factor"]): row for row in csv.DictReader(stream)}
    assert list(table) == [(stain, factor) for stain in ("haematoxylin", "eosin") for factor in ("1", "1.5")]
    assert table["haematoxylin", "1.5"]["dice_mean"] == "0.833333"
    assert table["haematoxylin", "1.5"]["images"] == "2"
    assert "| haematoxylin | 1.5 | 0.833 ± 0.236 | -0.167 | 2 |" in text
    assert "| eosin | 1 | 1.000 ± 0.000 |  | 2 |" in text
    assert Image.open(tmp_path / "evaluation" / "stain_shift.png").size[0] > 100
    found = shift_metrics(rows)
    assert set(found) == {
        "test_stain_haematoxylin_1.5_dice",
        "test_stain_eosin_1.5_dice",
        "test_stain_lowest_dice",
    }
    assert found["test_stain_lowest_dice"] == found["test_stain_haematoxylin_1.5_dice"] == pytest.approx(5 / 6)


def test_no_factor_no_test(cases):
    network = DarkIsTarget()
    assert shift_test(network, []).run(cases, unshifted={"a": 1.0, "b": 1.0}) == []
    assert network.seen == []


@pytest.mark.parametrize("factors", [[0.0], [-1], ["0.5"], [True], None, "0.5", [float("nan")], [float("inf")]])
def test_factors_that_are_no_numbers_above_0_are_refused(factors):
    with pytest.raises(ValueError, match=r"--stain_shifts must be a list of numbers above 0, or \[\] for none, got"):
        shift_test(DarkIsTarget(), factors)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_dice_of_one_case_is_that_of_the_full_scores(tmp_path, classes):
    rng = np.random.default_rng(classes)
    truth = rng.choice([*range(classes), 255] if classes > 2 else [0, 1], (9, 7)).astype(np.uint8)
    Image.fromarray(truth).save(tmp_path / "mask.png")
    logits = torch.from_numpy(rng.normal(size=(classes, 9, 7))).float()
    probabilities = torch.softmax(logits, 0).numpy()
    if classes == 2:
        expected = score_image(probabilities[1], truth).dice
    else:
        expected = np.mean([scores.dice for scores in score_classes(probabilities, truth)])
    assert case_dice({"mask": str(tmp_path / "mask.png")}, logits) == pytest.approx(expected)
