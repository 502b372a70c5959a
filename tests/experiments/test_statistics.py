"""Differences, gaps and means over folds, with numbers made by hand."""

from math import isnan, nan, sqrt

import pytest

from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.result_tables import (
    cost_table,
    difference_table,
    failure_table,
    gap_table,
    validation_table,
)
from cvm_monai.experiments.scores import case_means, fold_mean, read_rows, write_rows
from cvm_monai.experiments.state import Cost, read_validation
from cvm_monai.experiments.statistics import differences, gap_shares

from .conftest import finish, row


def rows_of(**dice):
    """{method: Dice of the cases a, b, ...}; neighbours share a patient: ab, cd, ..."""
    return {
        arm: [row(arm, "abcdefgh"[i], value, patient=f"p{i // 2}") for i, value in enumerate(values)]
        for arm, values in dice.items()
    }


def test_the_mean_is_over_folds_whose_seeds_are_averaged():
    rows = [
        row("cvm", "a", 0.2), row("cvm", "b", 0.4), row("cvm", "a", 0.6, seed=1), row("cvm", "b", 0.8, seed=1),
        row("cvm", "c", 0.7, fold=1), row("cvm", "c", 0.9, fold=1, seed=1),
    ]  # fmt: skip
    mean = fold_mean(rows, "dice")
    # fold 0: (0.3 + 0.7) / 2 = 0.5; fold 1: (0.7 + 0.9) / 2 = 0.8
    assert mean.mean == pytest.approx(0.65)
    assert mean.sd == pytest.approx(0.3 / sqrt(2))
    assert (mean.folds, mean.left_out) == (2, 0)


def test_undefined_scores_are_left_out_and_counted():
    mean = fold_mean([row("cvm", "a", 0.5), row("cvm", "b", None), row("cvm", "c", None, fold=1)], "auc")
    assert (mean.mean, mean.folds, mean.left_out) == (0.5, 1, 2)
    assert isnan(mean.sd)
    assert isnan(fold_mean([row("cvm", "a", None)], "auc").mean)


def test_a_case_that_one_seed_leaves_undefined_has_no_mean():
    rows = [row("cvm", "a", 0.2), row("cvm", "a", 0.4, seed=1), row("cvm", "b", 0.2), row("cvm", "b", None, seed=1)]
    assert case_means(rows) == {"a": pytest.approx(0.3)}


def test_differences_are_of_common_cases_and_corrected_together():
    rows = rows_of(
        cvm=[0.6, 0.6, 0.6, 0.6, 0.6, 0.6, None],
        partial_ce=[0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.5],  # all below: exact p = 2 / 64
        crf=[0.59, 0.62, 0.63, 0.64, 0.65, 0.66, None],  # ranks of +: 2 to 6, of -: 1; p = 4 / 64
    )
    worse, other = differences(rows, reference="cvm")
    assert (worse.arm, worse.cases, worse.left_out, worse.better) == ("partial_ce", 6, 1, 0)
    assert worse.by_case.mean == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.55) / -6)
    assert worse.by_patient.mean == pytest.approx(worse.by_case.mean)
    assert worse.by_case.high < 0
    assert (worse.p, other.p) == pytest.approx((2 / 64, 4 / 64))
    assert (worse.p_holm, other.p_holm) == pytest.approx((4 / 64, 4 / 64))  # 2 x 2/64, then 1 x 4/64
    assert (other.better, other.left_out) == (5, 1)


def test_one_patient_has_no_interval_over_patients():
    (only,) = differences(rows_of(cvm=[0.5, 0.6], crf=[0.4, 0.6]), reference="cvm")
    assert only.by_patient is None


def test_the_share_of_the_gap_is_that_of_the_means():
    rows = rows_of(partial_ce=[0.2, 0.4, 0.4, 0.4], cvm=[0.5, 0.5, 0.7, 0.7], full=[0.8, 0.8, 0.8, 0.8])
    (cvm,) = gap_shares(rows, lower="partial_ce", upper="full")
    # means 0.35, 0.6, 0.8: 0.25 / 0.45; patient 1 alone: (0.5 - 0.3) / 0.5 = 0.4, patient 2: (0.7 - 0.4) / 0.4 = 0.75
    assert cvm.share.mean == pytest.approx(0.25 / 0.45)
    assert (cvm.share.low, cvm.share.high) == pytest.approx((0.4, 0.75))
    assert (cvm.cases, cvm.patients) == (4, 2)


def test_a_gap_that_may_be_none_bounds_no_share():
    rows = rows_of(partial_ce=[0.4, 0.4, 0.4, 0.4], cvm=[0.5] * 4, full=[0.9, 0.9, 0.3, 0.3])
    (cvm,) = gap_shares(rows, lower="partial_ce", upper="full")
    assert cvm.share.mean == pytest.approx(0.1 / 0.2)
    assert isnan(cvm.share.low)
    assert isnan(cvm.share.high)
    assert gap_table(rows, lower="partial_ce", upper="full").cells[0][:3] == (
        "CVM", "0.50", "not bounded to not bounded",
    )  # fmt: skip


def test_no_gap_no_share():
    rows = rows_of(partial_ce=[0.4] * 4, cvm=[0.5] * 4, full=[0.3] * 4)
    assert gap_shares(rows, lower="partial_ce", upper="full")[0].share is None
    finding = gap_table(rows, lower="partial_ce", upper="full")
    assert finding.cells == (("CVM", "no gap", "", "4", "2"),)
    assert "No share where Full supervision is not better than Partial CE" in finding.notes[1]


@pytest.mark.parametrize(
    "arms, note",
    [
        (("cvm", "crf"), "Left out: it needs a finished run of `partial_ce` and a finished run of `full`."),
        (("cvm", "partial_ce"), "Left out: it needs a finished run of `full`."),
        (("full", "partial_ce"), "Left out: it needs a third method."),
    ],
)
def test_a_missing_end_of_the_gap_is_said(arms, note):
    rows = rows_of(**{arm: [0.5, 0.5] for arm in arms}) | {"mixmatch": []}
    finding = gap_table(rows, lower="partial_ce", upper="full")
    assert (finding.cells, finding.notes) == ((), (note,))


def test_a_missing_reference_is_said():
    finding = difference_table(rows_of(crf=[0.5], full=[0.6]) | {"cvm": []}, reference="cvm")
    assert finding.notes == ("Left out: it needs a finished run of `cvm`.",)
    assert difference_table(rows_of(cvm=[0.5]), reference="cvm").notes == ("Left out: it needs another method.",)


def test_few_pairs_and_left_out_cases_are_said():
    finding = difference_table(rows_of(cvm=[0.5, 0.6, None], crf=[0.6, 0.4, 0.5]), reference="cvm")
    assert finding.cells == (("CRF loss", "-0.050", "-0.200 to +0.100", "one patient", "1 of 2", "1.000", "1.000"),)
    assert "With 2 pairs no p can be below 0.5" in finding.notes[3]
    assert finding.notes[4] == "Cases that either method lacks a Dice for are left out: CRF loss 1."


def test_costs_are_means_of_times_and_the_largest_memory(tmp_path):
    runs = [(Run("cvm", fold, 0, tmp_path, {}), Cost(10.0 + fold * 10, 2.0, 300.0 + fold)) for fold in (0, 1)]
    finding = cost_table(runs, jobs=2)
    assert finding.cells == (("CVM", "2", "15 s", "2 s", "301 MiB"),)
    assert "this command allows 2 runs at once" in finding.notes[0]


def test_validation_points_rank_the_methods_by_the_mean_over_folds_of_the_mean_over_seeds(tmp_path):
    values = {("cvm", 0, 0): 0.4, ("cvm", 0, 1): 0.6, ("cvm", 1, 0): 0.2, ("crf", 0, 0): 0.3, ("crf", 1, 0): nan}
    runs = [(Run(arm, fold, seed, tmp_path, {}), value) for (arm, fold, seed), value in values.items()]
    finding = validation_table([*runs, (Run("full", 0, 0, tmp_path, {}), nan)])
    assert finding.cells == (("CRF loss", "0.300", "1"), ("CVM", "0.350", "2"))
    assert validation_table([(Run("full", 0, 0, tmp_path, {}), nan)]) is None


@pytest.mark.parametrize(
    ("text", "value"), [('{"val_partial_ce": 0.25}', 0.25), ('{"val_partial_ce": null}', nan), ("{", nan)]
)
def test_the_validation_of_a_run_is_read_from_its_record(tmp_path, text, value):
    assert isnan(read_validation(Run("cvm", 0, 0, tmp_path, {})))
    (tmp_path / "run.json").write_text(text)
    assert read_validation(Run("cvm", 0, 0, tmp_path, {})) == pytest.approx(value, nan_ok=True)


def test_failures_are_listed_or_absent(tmp_path):
    assert failure_table([]) is None
    finding = failure_table([(Run("cvm", 1, 0, tmp_path, {}), "error: no")])
    assert finding.cells == (("CVM", "1", "0", "error: no"),)


def test_scores_are_read_back_and_gathered(tmp_path):
    run = Run("cvm", 1, 2, tmp_path / "run", {})
    finish(run, {"a, left": 0.25, "b": float("nan")}, patients={"b": "p"})
    rows = read_rows(run)
    assert [(r.case_id, r.patient_id, r.fold, r.seed) for r in rows] == [("a, left", "a, left", 1, 2), ("b", "p", 1, 2)]
    assert rows[0].score("dice") == 0.25
    assert isnan(rows[1].score("dice"))
    write_rows(tmp_path / "per_case.csv", rows)
    assert (tmp_path / "per_case.csv").read_text() == (
        "method,fold,seed,case_id,patient_id,n_pixels,target_fraction,dice,accuracy,precision,kappa,auc,"
        "novel_fpr,pieces,region_ratio,boundary_ratio,hd95_px,hd95_um,ece,brier,object_dice,object_f1,note\n"
        'cvm,1,2,"a, left","a, left",100,0.400000,0.250000,0.500000,0.500000,0.500000,0.500000,,,,,,,,,,,\n'
        "cvm,1,2,b,p,100,0.400000,,0.500000,0.500000,0.500000,0.500000,,,,,,,,,,,: dice undefined\n"
    )
