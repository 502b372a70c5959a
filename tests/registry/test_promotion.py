"""Who becomes champion: by a test value's own kind, on the same images."""

from pathlib import Path

import pytest

from cvm_monai.metrics import CLAIMS, METRICS
from cvm_monai.registry.promotion import BETTER, Champion, Metric, check_comparable, decide, find_metric
from cvm_monai.registry.trained import Trained

TWO = ("background", "target")
TESTS = {
    "test_dice": 0.8,
    "test_dice_sd": 0.1,
    "test_pooled_dice": 0.82,
    "test_hd95_px_median": 4.0,
    "test_pieces": 1.1,
    "test_stain_lowest_dice": 0.6,
    "test_stain_haematoxylin_0.6_dice": 0.6,
    "test_stain_eosin_1.25_dice": 0.7,
}


def trained(data: str = "a", fold: int = 0) -> Trained:
    return Trained(Path("run"), Path("run/models/model.pt"), {"knobs": {"fold": fold}, "data_sha256": data}, TWO)


def test_every_value_of_an_evaluation_has_a_kind():
    assert set(BETTER) == {*METRICS, *CLAIMS}


@pytest.mark.parametrize(
    "asked, name, better",
    [
        ("dice", "test_dice", "higher"),
        ("test_dice", "test_dice", "higher"),
        ("pooled_dice", "test_pooled_dice", "higher"),
        ("hd95_px_median", "test_hd95_px_median", "lower"),
        ("pieces", "test_pieces", "closer to 1"),
        ("stain_lowest_dice", "test_stain_lowest_dice", "higher"),
        ("test_stain_haematoxylin_0.6_dice", "test_stain_haematoxylin_0.6_dice", "higher"),
        ("stain_eosin_1.25_dice", "test_stain_eosin_1.25_dice", "higher"),
    ],
)
def test_a_metric_is_found_by_its_name(asked, name, better):
    assert find_metric(asked, tests=TESTS, classes=TWO) == Metric(name, better)


def test_a_class_has_its_own_metric():
    classes = ("background", "gland", "vessel")
    assert find_metric("dice_vessel", tests={"test_dice_vessel": 0.5}, classes=classes).better == "higher"


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ("dise", "recorded no test_dise; choose test_dice, test_hd95_px_median, test_pieces, test_stain_eosin"),
        ("auc", "recorded no test_auc; choose test_dice, .*, test_pooled_dice$"),
        ("dice_sd", "neither a higher nor a lower test_dice_sd is better; choose test_dice"),
    ],
)
def test_other_names_are_refused_with_the_choices(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        find_metric(asked, tests=TESTS, classes=TWO)


@pytest.mark.parametrize(
    "better, value, other, wins",
    [
        ("higher", 0.9, 0.8, True),
        ("higher", 0.8, 0.8, False),
        ("lower", 3.0, 4.0, True),
        ("lower", 5.0, 4.0, False),
        ("closer to 1", 0.9, 1.2, True),
        ("closer to 1", 1.3, 1.2, False),
    ],
)
def test_better_is_what_the_kind_says(better, value, other, wins):
    assert Metric("test_x", better).beats(value, other) is wins


def test_the_decision_is_one_sentence():
    metric, champion = Metric("test_dice", "higher"), Champion("2", {"test_dice": 0.8}, "a", "0")
    first = decide(metric, 0.7, None, name="cvm", version="1")
    better = decide(metric, 0.9, champion, name="cvm", version="3")
    worse = decide(metric, 0.8, champion, name="cvm", version="3")
    assert (first.promoted, better.promoted, worse.promoted) == (True, True, False)
    assert first.sentence == "cvm version 1 is the first champion (test_dice 0.7)."
    assert better.sentence == (
        "cvm version 3 is the new champion: its test_dice 0.9 is higher than 0.8 of version 2 on the same data."
    )
    assert worse.sentence == (
        "version 2 stays champion: test_dice 0.8 of the new cvm version 3 is not higher than 0.8 of version 2 on the "
        "same data."
    )


@pytest.mark.parametrize(
    "champion, sentence",
    [
        (Champion("2", {"test_dice": 0.8}, "b", "0"), "cvm version 2, was tested on other data .data list b, here a."),
        (Champion("2", {"test_dice": 0.8}, None, "0"), "other data .data list unknown"),
        (Champion("2", {"test_dice": 0.8}, "a", "1"), "tested on fold 1, this training on fold 0"),
        (Champion("2", {}, "a", "0"), "cvm version 2, has no test_dice"),
    ],
)
def test_values_of_other_images_are_not_compared(champion, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_comparable(Metric("test_dice", "higher"), champion, trained=trained(), name="cvm")


def test_the_same_data_and_fold_are_compared():
    champion = Champion("2", {"test_dice": 0.8}, "a", "0")
    check_comparable(Metric("test_dice", "higher"), champion, trained=trained(), name="cvm")
