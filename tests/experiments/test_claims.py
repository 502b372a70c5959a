"""The table of the claims, with numbers made by hand."""

from math import isnan, sqrt

import numpy as np
import pytest

from cvm_monai.experiments.claims import claims_csv, claims_table, make_claims
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.scores import Row
from cvm_monai.metrics import write_calibration_csv
from cvm_monai.metrics.calibration import reliability


def row(arm, case, *, fold=0, seed=0, **claims):
    return Row(arm, fold, seed, case, "p", {name: f"{value}" for name, value in claims.items()})


def calibrated(folder, arm, fold, *, seed=0, said, pixels=1):
    """A run whose evaluation had background pixels, all told to be target with the probability `said`."""
    run = Run(arm, fold, seed, folder / f"{arm}{fold}{seed}", {})
    values = reliability(np.full(pixels, said), np.zeros(pixels, dtype=bool))
    write_calibration_csv(run.folder / "evaluation" / "calibration.csv", values)
    return run


ROWS = {
    "full": [row("full", "a", pieces=1, hd95_px=2)],
    "cvm": [
        row("cvm", "a", pieces=1, hd95_px=4, novel_fpr=0.25),
        row("cvm", "b", pieces=2),
        row("cvm", "c", fold=1, pieces=3, hd95_px=8),
    ],
    "crf": [],
}


def test_means_are_over_folds_and_the_upper_bound_stands_last():
    table = make_claims(ROWS, [], upper="full")
    assert list(table.means) == ["cvm", "full"]
    assert table.columns == ("novel_fpr", "pieces", "hd95_px")
    pieces = table.means["cvm"]["pieces"]
    assert (pieces.mean, pieces.sd, pieces.folds, pieces.left_out) == (2.25, pytest.approx(1.5 / sqrt(2)), 2, 0)
    assert claims_table(table).cells == (
        ("CVM", "0.250", "2.250 ± 1.061", "6.000 ± 2.828", "2"),
        ("Full supervision (upper bound)", "undefined", "1.000", "2.000", "1"),
    )


def test_undefined_scores_are_counted_and_missing_columns_explained():
    notes = claims_table(make_claims(ROWS, [], upper="full")).notes
    assert "HD95 (px): undefined and left out of the mean, in scored images: CVM 1 of 3." in notes
    assert (
        "False positives in novel regions: undefined and left out of the mean, in scored images: CVM 2 of 3, "
        "Full supervision 1 of 1." in notes
    )
    assert "No column: HD95 (um) is not measured: not every image has a pixel size." in notes
    assert "No column: Object Dice is not measured: the masks do not tell objects apart." in notes
    assert "No column: ECE is not measured: no image defines it." in notes


def test_the_distance_is_in_um_only_where_every_one_is():
    both = [row("cvm", "a", hd95_px=4, hd95_um=2), row("cvm", "b", hd95_px=4, hd95_um=2)]
    known = make_claims({"cvm": both}, [], upper="full")
    assert known.columns == ("hd95_um",)
    assert not any("px" in note for note in claims_table(known).notes)
    assert make_claims({"cvm": [*both, row("cvm", "c", hd95_px=4)]}, [], upper="full").columns == ("hd95_px",)


def test_the_calibration_error_of_a_fold_is_pooled_not_the_mean_of_its_images(tmp_path):
    rows = {"cvm": [row("cvm", "a", ece=0.9, brier=0.5), row("cvm", "b", ece=0.9), row("cvm", "c", fold=1, ece=0.9)]}
    runs = [
        calibrated(tmp_path, "cvm", 0, said=0.2, pixels=3),
        calibrated(tmp_path, "cvm", 0, seed=1, said=0.4),
        calibrated(tmp_path, "cvm", 1, said=0.5),
        calibrated(tmp_path, "other", 1, said=0.9),
    ]
    ece = make_claims(rows, runs, upper="full").means["cvm"]["ece"]
    assert ece.mean == pytest.approx(((0.2 + 0.4) / 2 + 0.5) / 2)
    assert (ece.folds, ece.left_out) == (2, 0)


def test_a_run_without_calibration_is_left_out_and_counted(tmp_path):
    rows = {"cvm": [row("cvm", "a", pieces=1)]}
    runs = [calibrated(tmp_path, "cvm", 0, said=0.2), Run("cvm", 1, 0, tmp_path / "older", {})]
    table = make_claims(rows, runs, upper="full")
    assert (table.means["cvm"]["ece"].mean, table.means["cvm"]["ece"].left_out) == (pytest.approx(0.2), 1)
    assert isnan(table.means["cvm"]["ece"].sd)
    assert "ECE: undefined and left out of the mean, in runs: CVM 1." in claims_table(table).notes


@pytest.mark.parametrize("lines", [3, 20])
def test_damaged_calibration_is_named(tmp_path, lines):
    run = calibrated(tmp_path, "cvm", 0, said=0.2)
    file = run.folder / "evaluation" / "calibration.csv"
    file.write_text("lower,upper,pixels,mean_probability,target_fraction\n" + "0,1,1,0.5,0.5\n" * lines)
    with pytest.raises(ValueError, match=r"calibration.csv is damaged: it must hold 15 lines of numbers"):
        make_claims({"cvm": [row("cvm", "a", pieces=1)]}, [run], upper="full")


def test_csv_has_six_decimals_and_empty_cells():
    assert claims_csv(make_claims(ROWS, [], upper="full")).splitlines() == [
        "method,novel_fpr_mean,novel_fpr_sd,novel_fpr_left_out,pieces_mean,pieces_sd,pieces_left_out,"
        "hd95_px_mean,hd95_px_sd,hd95_px_left_out",
        "cvm,0.250000,,2,2.250000,1.060660,0,6.000000,2.828427,1",
        "full,,,1,1.000000,,0,2.000000,,0",
    ]


def test_nothing_measured_is_said_so():
    finding = claims_table(make_claims({"cvm": [row("cvm", "a")]}, [], upper="full"))
    assert (finding.cells, finding.notes) == ((), ("Left out: no finished run has measured them.",))
