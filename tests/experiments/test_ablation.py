"""Which arms an ablation has, what is compared and drawn, and which values and knobs are refused."""

from pathlib import Path

import pytest

from cvm_monai.engines.workflow import bundle_root
from cvm_monai.experiments.ablation import plan_ablation
from cvm_monai.experiments.knobs import parse_knobs, read_train_config
from cvm_monai.experiments.layout import Sweep, sweep_picture
from cvm_monai.experiments.result_tables import pairwise_table
from cvm_monai.experiments.scores import run_means
from cvm_monai.knobs import TRAINING

from .conftest import row

CONFIG = {"pairs": 5, "eta": 0.6, "solver": "aos", "iterations": 50, "lam": 0.5}
LOSS = "method_constants#cvm#pseudo_label_loss"


def arms_of(ablation):
    return {arm.name: dict(arm.knobs) for arm in ablation.arms}


def test_pairs_are_trained_by_both_losses_and_by_points_alone():
    ablation = plan_ablation("pairs", "2, 1", config=CONFIG)
    assert arms_of(ablation) == {
        "1_pair_weighted_KL": {"supervision": "cvm", LOSS: "weighted_kl", "pairs": "1"},
        "2_pairs_weighted_KL": {"supervision": "cvm", LOSS: "weighted_kl", "pairs": "2"},
        "1_pair_cross_entropy": {"supervision": "cvm", LOSS: "cross_entropy", "pairs": "1"},
        "2_pairs_cross_entropy": {"supervision": "cvm", LOSS: "cross_entropy", "pairs": "2"},
        "1_pair_partial_CE": {"supervision": "partial_ce", "pairs": "1"},
        "2_pairs_partial_CE": {"supervision": "partial_ce", "pairs": "2"},
    }
    assert ablation.most_pairs == 2
    assert ablation.layout.reference == "2_pairs_weighted_KL"
    assert ablation.layout.contrasts == (
        ("1_pair_weighted_KL", "1_pair_cross_entropy"),
        ("2_pairs_weighted_KL", "2_pairs_cross_entropy"),
    )
    (sweep,) = ablation.layout.sweeps
    assert list(sweep.lines) == ["weighted KL", "cross-entropy", "points alone"]
    assert sweep.lines["points alone"] == {1: "1_pair_partial_CE", 2: "2_pairs_partial_CE"}
    assert sweep.default is None  # 5 is not among them


def test_the_published_values_are_the_default():
    pairs, eta, solver = (plan_ablation(what, None, config=CONFIG) for what in ("pairs", "eta", "solver"))
    assert [arm.knobs["pairs"] for arm in pairs.arms[:4]] == ["1", "2", "3", "5"]
    assert pairs.layout.reference == "5_pairs_weighted_KL"
    assert pairs.layout.sweeps[0].default == 5
    assert arms_of(eta) == {
        **{f"eta_{text}": {"supervision": "cvm", "eta": text} for text in ("0", "0.3", "0.6", "0.9")},
        "partial_ce": {"supervision": "partial_ce"},
    }
    assert eta.layout.reference == "eta_0.6"
    (sweep,) = eta.layout.sweeps
    assert (sweep.default, sweep.level) == (0.6, "partial_ce")
    assert len(solver.arms) == 11
    assert solver.layout.reference == "AOS_50_lam_0.5"


def test_a_solver_is_drawn_against_lam_and_against_iterations_where_there_are_two_of_them():
    ablation = plan_ablation("solver", "aos:5:0.5,aos:50:0.50,aos:50:2,primal_dual:500:1", config=CONFIG)
    assert arms_of(ablation)["AOS_5_lam_0.5"] == {
        "supervision": "cvm", "solver": "aos", "iterations": "5", "lam": "0.5",
    }  # fmt: skip
    by_lam, by_iterations = ablation.layout.sweeps
    lines = {"AOS, 50 iterations": {0.5: "AOS_50_lam_0.5", 2: "AOS_50_lam_2"}}
    assert by_lam == Sweep("lam", lines, 0.5, "partial_ce", log=True)
    lines = {"AOS, lam 0.5": {5: "AOS_5_lam_0.5", 50: "AOS_50_lam_0.5"}}
    assert by_iterations == Sweep("Iterations", lines, 50, "partial_ce", log=True)
    assert plan_ablation("solver", "primal_dual:500:1", config=CONFIG).layout.sweeps == ()


@pytest.mark.parametrize(
    "what, values, message",
    [
        ("lam", None, "--what must be one of pairs, eta, solver, got 'lam'"),
        ("pairs", "1,0", "--values must be whole numbers of at least 1, with commas between them, got '0'"),
        ("pairs", "1.5", "--values must be whole numbers of at least 1, .* got '1.5'"),
        ("pairs", "", "--values must be whole numbers of at least 1, .* got ''"),
        ("eta", "0.3,1.2", r"--values must be numbers in \[0, 1\], with commas between them, got '1.2'"),
        ("eta", "nan", r"--values must be numbers in \[0, 1\], .* got 'nan'"),
        ("eta", "much", r"--values must be numbers in \[0, 1\], .* got 'much'"),
        ("solver", "aos:50", r"--values must be settings such as aos:50:0.5 \(.*aos or primal_dual\), .* got 'aos:50'"),
        ("solver", "chan:50:1", "--values must be settings such as aos:50:0.5 .* got 'chan:50:1'"),
        ("solver", "aos:50:0", "--values must be settings such as aos:50:0.5 .* got 'aos:50:0'"),
    ],
)
def test_values_that_cannot_be_are_refused(what, values, message):
    with pytest.raises(ValueError, match=message):
        plan_ablation(what, values, config=CONFIG)


def test_a_default_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"eta in the bundle's training configuration must be a number, got '@x'"):
        plan_ablation("eta", None, config=CONFIG | {"eta": "@x"})


@pytest.mark.parametrize(
    "what, knob",
    [
        ("pairs", "pairs"),
        ("pairs", "load#pairs"),
        ("pairs", LOSS),
        ("eta", "eta"),
        ("eta", "method_constants#cvm#eta"),
        ("solver", "iterations"),
        ("solver", "method_constants#cvm#lam"),
    ],
)
def test_what_is_varied_cannot_be_set_besides(what, knob):
    config = read_train_config(Path(bundle_root()))
    own = plan_ablation(what, None, config=config).own
    with pytest.raises(ValueError, match=f"the comparison sets --{knob} itself: the ablation varies it, see --values"):
        parse_knobs([f"--{knob}", "1"], config, own=own)


def test_constants_are_set_one_by_one_and_the_method_is_given():
    config = read_train_config(Path(bundle_root()))
    own = plan_ablation("eta", None, config=config).own
    with pytest.raises(ValueError, match="sets --method_constants#cvm itself: change its entries one by one"):
        parse_knobs(["--method_constants#cvm", "{}"], config, own=own)
    with pytest.raises(ValueError, match="sets --supervision itself: cvm is what is ablated"):
        parse_knobs(["--supervision", "full"], config, own=own)
    assert parse_knobs(["--method_constants#cvm#weight", "2", "--lam", "1"], config, own=own) == {
        "method_constants#cvm#weight": "2", "lam": "1",
    }  # fmt: skip


def test_the_knobs_of_every_arm_are_known_to_the_bundle():
    config = read_train_config(Path(bundle_root()))
    for what in ("pairs", "eta", "solver"):
        for arm in plan_ablation(what, None, config=config).arms:
            assert {name for name in arm.knobs if "#" not in name} <= set(TRAINING)
    assert config["method_constants"]["cvm"]["pseudo_label_loss"] == "weighted_kl"


def test_each_run_has_its_mean_and_one_without_a_score_has_none():
    rows = [row("a", "1", 0.2), row("a", "2", 0.6), row("a", "3", 0.9, fold=1), row("a", "1", 0.5, seed=1),
            row("a", "3", None, fold=1, seed=1)]  # fmt: skip
    assert run_means(rows) == pytest.approx([0.4, 0.5, 0.9])  # fold 0 seed 0, fold 0 seed 1, fold 1 seed 0


def test_the_plot_has_mean_and_spread_over_folds_and_seeds():
    rows = {
        "low": [row("low", "1", 0.2), row("low", "2", 0.4, fold=1), row("low", "2", 0.6, fold=1, seed=1)],
        "high": [row("high", "1", 0.7)],
        "points": [row("points", "1", 0.1)],
        "failed": [],
    }
    sweep = Sweep("eta", {"CVM": {0.0: "low", 0.3: "failed", 0.6: "high"}}, 0.6, "points")
    picture = sweep_picture([sweep], rows)
    assert picture is not None
    (axes,) = picture.figure.axes
    (line,) = axes.containers
    assert line.lines[0].get_xdata().tolist() == [0, 0.6]
    assert line.lines[0].get_ydata().tolist() == pytest.approx([0.4, 0.7])
    bars = [segment[:, 1].tolist() for segment in line.lines[2][0].get_segments()]
    assert bars == [pytest.approx([0.2, 0.6]), pytest.approx([0.7, 0.7])]  # sd of 0.2, 0.4, 0.6 is 0.2
    assert picture.caption.startswith("Mean over runs (folds x seeds, 1 to 3 each)")
    assert picture.caption.endswith("Dotted: the bundle's default.")


def test_no_score_no_picture():
    assert sweep_picture([Sweep("eta", {"CVM": {0.0: "a"}})], {"a": []}) is None
    assert sweep_picture([], {}) is None


def test_two_arms_are_compared_case_by_case_and_p_is_corrected_for_the_pairs():
    levels = {"a1": 0.2, "b1": 0.1, "a2": 0.0, "b2": 0.2}
    rows = {arm: [row(arm, f"c{i}", level * i) for i in range(1, 7)] for arm, level in levels.items()}
    finding = pairwise_table(rows | {"a3": [], "b3": []}, pairs=[("a1", "b1"), ("a2", "b2"), ("a3", "b3")])
    assert [cell[:2] for cell in finding.cells] == [("a1 - b1", "+0.350"), ("a2 - b2", "-0.700")]
    assert [cell[4] for cell in finding.cells] == ["6 of 6", "0 of 6"]
    assert [cell[5:] for cell in finding.cells] == [("0.031", "0.062")] * 2  # 2 / 2^6, twice that
    assert finding.notes[-1] == "Left out, for want of two test cases that both have a Dice for: a3 - b3."
