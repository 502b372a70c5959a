"""The section of the summary, the columns of the table of cases, and the table of calibration, letter by letter."""

import csv

import numpy as np
import pytest

from cvm_monai.metrics import (
    CaseScores,
    claims_markdown,
    score_claims,
    score_image,
    summarise_claims,
    write_calibration_csv,
    write_per_case_csv,
)
from cvm_monai.metrics.calibration import reliability

TRUTH = np.zeros((8, 8), dtype=np.uint8)
TRUTH[1:5, 1:5] = 1
NOVEL = np.zeros((8, 8), dtype=np.uint8)
NOVEL[6:, :] = 255
SPECK = TRUTH * 1.0
SPECK[7, 0] = 1


def claims():
    """Perfect; with a speck in a novel region; nothing predicted."""
    return [
        score_claims(TRUTH * 1.0, TRUTH),
        score_claims(SPECK, TRUTH, novel=NOVEL),
        score_claims(TRUTH * 0.0, TRUTH, novel=NOVEL),
    ]


def test_the_section_shows_what_is_measured_and_says_why_the_rest_is_not():
    lines = claims_markdown(claims()).splitlines()
    assert lines[1] == "## The claims in words"
    # pooled: 1 of 2 x 16; 2 pieces in the 2 regions found; 1 + 2 + 0 components on 3; 17 wrong pixels on 3 x 64
    # the speck is one of 13 boundary pixels, sqrt 10 away: the 95th percentile lies 0.4 of the way to it
    for line in (
        "| False positives in novel regions | 0.031 ± 0.044 | 0.031 | 2 (1 left out) | 0.031 |",
        "| Pieces per true region | 1.000 ± 0.000 | 1.000 | 2 (1 left out) | 1.000 |",
        "| Regions predicted / true | 1.000 ± 1.000 | 1.000 | 3 | 1.000 |",
        "| HD95 (px) | 0.632 ± 0.894 | 0.632 | 2 (1 left out) |  |",
        "| Brier | 0.089 ± 0.140 | 0.016 | 3 | 0.089 |",
        "- HD95 (um) is not measured: not every image has a pixel size.",
        "- Object Dice is not measured: the masks do not tell objects apart.",
    ):
        assert line in lines, line
    assert not any(line.startswith("| Object") for line in lines)


def test_one_image_has_no_spread():
    assert "| Boundary predicted / true | 1.000 | 1.000 | 1 | 1.000 |" in claims_markdown(claims()[:1])


def test_the_median_is_of_the_images_that_define_it():
    summary = summarise_claims(claims())
    assert (summary["brier"].median, summary["brier"].n) == (pytest.approx(1 / 64), 3)
    assert np.isnan(summary["hd95_um"].median)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="no image to summarise"):
        summarise_claims([])


def test_every_case_has_its_claims_in_the_table(tmp_path):
    row = CaseScores("a", "p", score_image(SPECK, TRUTH), claims()[1])
    write_per_case_csv(tmp_path / "per_case.csv", [row])
    with (tmp_path / "per_case.csv").open() as stream:
        (cells,) = csv.DictReader(stream)
    assert cells["novel_fpr"] == "0.062500"
    assert (cells["pieces"], cells["region_ratio"]) == ("1.000000", "2.000000")
    assert (cells["hd95_um"], cells["object_f1"], cells["note"]) == ("", "", "")


def test_calibration_has_a_line_a_bin_and_empty_cells_where_no_pixel_is(tmp_path):
    path = tmp_path / "eval" / "calibration.csv"
    write_calibration_csv(path, reliability(np.array([0.01, 0.03, 0.9]), np.array([True, False, True])))
    lines = path.read_text().splitlines()
    assert lines[:3] == [
        "lower,upper,pixels,mean_probability,target_fraction",
        "0.000000,0.066667,2,0.020000,0.500000",
        "0.066667,0.133333,0,,",
    ]
    assert lines[14] == "0.866667,0.933333,1,0.900000,1.000000"
    assert len(lines) == 16
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.csv"]
