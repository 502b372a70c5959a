"""All claims of one image together, and of many pooled."""

from math import isnan

import numpy as np
import pytest

from cvm_monai.metrics import CLAIMS, pool_claims, score_claims

TRUTH = np.zeros((8, 8), dtype=np.uint8)
TRUTH[1:5, 1:5] = 1
NOVEL = np.zeros((8, 8), dtype=np.uint8)
NOVEL[6:, :] = 255
SHIFTED = np.zeros((8, 8))
SHIFTED[1:5, 3:7] = 0.9
SHIFTED[7, 0] = 0.9


def test_every_claim_of_an_image_that_can_be_looked_through():
    found = score_claims(SHIFTED, TRUTH, novel=NOVEL, objects=TRUTH, mpp=0.5)
    assert found.novel_fpr == pytest.approx(1 / 16)
    assert (found.pieces, found.region_ratio) == (1, 2)
    assert found.boundary_ratio > 1
    assert found.hd95_um == pytest.approx(found.hd95_px / 2)
    assert found.brier == pytest.approx((8 * 1 + 8 * 0.01 + 9 * 0.81) / 64)
    # bin of 0: 47 pixels, of which 8 are target; bin of 0.9: 17 pixels, of which 8 are
    assert found.ece == pytest.approx((8 + abs(17 * 0.9 - 8)) / 64)
    assert found.object_f1 == pytest.approx(2 / 3)  # half is covered, and the speck is one too many
    assert found.object_dice == pytest.approx((0.5 + 16 / 17 * 0.5) / 2)


def test_what_is_not_given_is_undefined():
    found = score_claims(SHIFTED, TRUTH)
    assert [name for name in CLAIMS if isnan(getattr(found, name))] == [
        "novel_fpr", "hd95_um", "object_dice", "object_f1"
    ]  # fmt: skip


def test_nothing_predicted_has_no_distance_and_no_piece_but_a_ratio_of_zero():
    found = score_claims(np.full((8, 8), 0.1), TRUTH)
    assert isnan(found.hd95_px)
    assert isnan(found.pieces)
    assert (found.region_ratio, found.boundary_ratio) == (0, 0)


def test_an_image_without_target_has_no_regions_to_compare_with():
    found = score_claims(SHIFTED, np.zeros_like(TRUTH), novel=NOVEL)
    assert all(isnan(getattr(found, name)) for name in ("pieces", "region_ratio", "boundary_ratio", "hd95_px"))
    assert found.novel_fpr == pytest.approx(1 / 16)


def test_ignored_pixels_change_nothing():
    truth, probability = np.pad(TRUTH, 2, constant_values=255), np.pad(SHIFTED, 2, constant_values=0.7)
    novel = np.pad(NOVEL, 2, constant_values=255)
    inner = score_claims(SHIFTED, TRUTH, novel=NOVEL)
    outer = score_claims(probability, truth, novel=novel)
    for name in ("novel_fpr", "pieces", "region_ratio", "boundary_ratio", "hd95_px", "ece", "brier"):
        assert getattr(outer, name) == pytest.approx(getattr(inner, name)), name


def test_pooled_scores_are_ratios_of_sums_not_means_of_ratios():
    clean = score_claims(TRUTH * 1.0, TRUTH, novel=NOVEL[::-1])  # its novel region: rows 0 and 1, 4 px of them target
    pooled = pool_claims([score_claims(SHIFTED, TRUTH, novel=NOVEL), clean])
    assert pooled.novel_fpr == pytest.approx((1 + 0) / (16 + 12))
    assert pooled.region_ratio == pytest.approx((2 + 1) / (1 + 1))
    assert pooled.brier == pytest.approx((8 * 1 + 8 * 0.01 + 9 * 0.81) / 128)
    # the sure and right pixels join the bin of 0 (8 target too many in it), and fill that of 1
    assert pooled.ece == pytest.approx((8 + abs(17 * 0.9 - 8 + 16 - 16)) / 128)
    assert isnan(pooled.hd95_px)
    assert isnan(pooled.object_f1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"novel": NOVEL[1:]}, r"novel has shape \(7, 8\) and truth \(8, 8\): they must be equal"),
        ({"objects": TRUTH[:, 1:]}, r"objects has shape \(8, 7\) and truth \(8, 8\)"),
        ({"mpp": 0.0}, "mpp is 0.0: give micrometres per pixel above 0"),
        ({"probability": SHIFTED[1:]}, r"probability has shape \(7, 8\) and truth \(8, 8\)"),
        ({"truth": TRUTH + 1}, r"truth holds \[2\]: only 0"),
        ({"threshold": 1.0}, "threshold is 1.0"),
    ],
)
def test_what_cannot_be_scored_is_refused(changes, message):
    arguments = {"probability": SHIFTED, "truth": TRUTH} | changes
    with pytest.raises(ValueError, match=message):
        score_claims(**arguments)


def test_no_image_cannot_be_pooled():
    with pytest.raises(ValueError, match="no image to pool"):
        pool_claims([])
