"""The whole ablation with an executor that trains nothing: what is prepared, run, passed over, refused, written."""

import csv

import mlflow
import pytest
from PIL import Image

from cvm_monai.annotations import read_annotations
from cvm_monai.data.datalist import read_datalist
from cvm_monai.experiments.ablation import AblationRequest, ablate
from cvm_monai.experiments.compare import ComparisonRequest, compare

from .conftest import FakeExecutor

QUIET = ("--tracking_uri", "none")
DICE = {
    **{f"{v}_weighted_KL": level for v, level in (("1_pair", 0.4), ("2_pairs", 0.6))},
    **{f"{v}_cross_entropy": level for v, level in (("1_pair", 0.2), ("2_pairs", 0.55))},
    **{f"{v}_partial_CE": level for v, level in (("1_pair", 0.1), ("2_pairs", 0.3))},
}


@pytest.fixture
def ask(phantom, tmp_path):
    """Ablate on the phantom, by default 1 and 2 pairs without MLflow."""

    def call(execute=None, **changes):
        said = []
        facts = {"folder": phantom, "output": tmp_path / "out", "what": "pairs", "values": "1,2", "knobs": QUIET}
        call.executor = execute or FakeExecutor(DICE)
        call.result = ablate(AblationRequest(**facts | changes), execute=call.executor, say=said.append)
        return said

    return call


@pytest.mark.usefixtures("drawn")
def test_every_value_runs_on_every_fold_and_seed_and_all_is_written(ask, tmp_path):
    said = ask(seeds=2)
    assert len(ask.executor.done) == 6 * 4 * 2
    assert said[1] == "48 runs, of which 0 finished before; 1 at once:"
    assert said[2].endswith(
        "--supervision cvm '--method_constants#cvm#pseudo_label_loss' weighted_kl --pairs 1 --tracking_uri none"
    )
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} >= {
        "ablation.md", "ablation.csv", "ablation.tex", "ablation.png", "per_case.csv", "statistics.md", "report.html",
        "dice.png", "cases.png",
    }  # fmt: skip
    assert all(min(Image.open(out / name).size) > 300 for name in ("ablation.png", "dice.png", "cases.png"))
    assert ask.result.files[1] == out / "ablation.md"
    text = (out / "ablation.md").read_text()
    assert text.startswith("# Pairs of points (Figure 3a)\n")
    assert "- Pairs: points of each class that an image is trained with at most. Weighted KL: `cvm`." in text
    assert "crop_size 128, max_epochs 40;" in text  # and no number of pairs, which differs
    page = (out / "report.html").read_text()
    assert "<h2>Dice against the varied value</h2>" in page
    assert "folds x seeds, 8 each" in page
    assert "Table 1" not in page


def test_table_and_statistics_follow_from_the_scores(ask, tmp_path):
    ask()
    with (tmp_path / "out" / "ablation.csv").open() as stream:
        means = {line["method"]: float(line["dice_mean"]) for line in csv.DictReader(stream)}
    assert means == pytest.approx({arm: level + 0.035 for arm, level in DICE.items()}, abs=1e-6)
    statistics = (tmp_path / "out" / "statistics.md").read_text()
    assert "## Difference in Dice to 2 pairs weighted KL" in statistics
    assert "| 1 pair weighted KL | -0.200 |" in statistics
    assert "| 1 pair weighted KL - 1 pair cross entropy | +0.200 | +0.200 to +0.200 |" in statistics
    assert "| 2 pairs weighted KL - 2 pairs cross entropy | +0.050 |" in statistics
    assert "Share of the gap" not in statistics


def test_the_same_command_runs_nothing_a_further_value_only_itself_and_another_constant_is_refused(ask):
    ask(only="0")
    said = ask(only="0")
    assert said[1:] == ["6 runs, of which 6 finished before; 1 at once:"]
    ask(only="0", values="1,2,3")
    assert sorted(ask.executor.done) == [
        f"3_pairs_{name}, fold 0, seed 0" for name in ("cross_entropy", "partial_CE", "weighted_KL")
    ]
    with pytest.raises(ValueError, match=r"1_pair_.* finished with another configuration: eta was 0\.6 and is"):
        ask(only="0", knobs=("--eta", "0.3", *QUIET))


def test_a_failed_run_is_named_and_the_others_are_drawn(ask, tmp_path):
    ask(FakeExecutor(DICE, fails=lambda run: run.arm == "1_pair_cross_entropy"))
    assert ask.result.failed == 4
    assert "INCOMPLETE: 4 of 24 runs failed" in (tmp_path / "out" / "ablation.md").read_text()
    assert "Left out, for want of two test cases that both have a Dice for: 1 pair weighted KL - 1 pair cross" in (
        (tmp_path / "out" / "statistics.md").read_text()
    )
    assert (tmp_path / "out" / "ablation.png").is_file()


def test_a_folder_without_points_gets_the_largest_number_of_pairs(ask, user_folder, tmp_path):
    ask(folder=user_folder, folds=2, values="1,7")
    case = read_datalist(tmp_path / "out" / "dataset").cases[0]
    assert case.points is not None
    assert [point.label for point in read_annotations(case.points).points] == [1] * 7 + [0] * 7


def test_more_pairs_than_any_image_has_points_are_refused(ask, user_folder):
    rows = [f"case_{i:03d},{x},20,{label}\n" for i in range(8) for label, x in ((1, 15), (1, 16), (0, 2))]
    (user_folder / "points.csv").write_text("case_id,x,y,label\n" + "".join(rows))
    message = "2 pairs are requested, and no image of .* the most has case_000, 2 target and 1 background; give lower"
    with pytest.raises(ValueError, match=message):
        ask(folder=user_folder, folds=2)
    assert ask.executor.done == []
    ask(folder=user_folder, folds=2, values="1")


def test_images_with_fewer_points_are_counted_in_the_header(ask, user_folder, tmp_path):
    rows = [f"case_{i:03d},{x},{20 + k},{label}\n" for i in range(8) for label, x in ((1, 15), (0, 2))
            for k in range(2 if i else 1)]  # fmt: skip
    (user_folder / "points.csv").write_text("case_id,x,y,label\n" + "".join(rows))
    ask(folder=user_folder, folds=2)
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "- 1 of 8 images have fewer than 2 points of a class, and are used with what they have (case_000)." in text


def test_eta_and_solver_have_points_alone_as_a_level_and_need_no_number_of_points(ask, tmp_path):
    ask(what="eta", values="0,0.6", only="0", output=tmp_path / "eta")
    assert ask.executor.done == [f"{arm}, fold 0, seed 0" for arm in ("eta_0", "eta_0.6", "partial_ce")]
    assert "Difference in Dice to eta 0.6" in (tmp_path / "eta" / "statistics.md").read_text()
    ask(what="solver", values="aos:50:0.5,primal_dual:500:1", only="0", output=tmp_path / "solver")
    assert ask.executor.done[:2] == ["AOS_50_lam_0.5, fold 0, seed 0", "primal_dual_500_lam_1, fold 0, seed 0"]
    assert not (tmp_path / "solver" / "ablation.png").exists()  # no line has two values


def test_what_is_varied_is_left_out_of_a_setting(ask, tmp_path):
    setting = tmp_path / "setting.json"
    setting.write_text('{"lam": 0.2, "solver": "aos", "contrast": "two_sided"}')
    said = ask(what="solver", values="aos:50:0.5,aos:50:1", only="0", setting=setting)
    lines = [line for line in said if "training" in line]
    assert ["--lam 0.5" in line for line in lines] == [True, False, False]
    assert ["--lam 1" in line for line in lines] == [False, True, False]
    assert all("--contrast two_sided" in line and "--lam 0.2" not in line for line in lines)


def test_a_reference_that_is_not_among_the_values_leaves_its_part_out(ask, tmp_path):
    ask(what="eta", values="0,0.3", only="0")
    assert "Left out: it needs a finished run of `eta_0.6`." in (tmp_path / "out" / "statistics.md").read_text()


def test_an_output_of_another_study_is_refused_before_anything_is_written_over(ask, phantom, tmp_path):
    ask(only="0")
    before = (tmp_path / "out" / "report.html").read_bytes()
    with pytest.raises(ValueError, match=r"holds the runs and the report of another study \(ablate-pairs\)"):
        ask(what="eta", values=None)
    request = ComparisonRequest(folder=phantom, output=tmp_path / "out", methods="cvm", knobs=QUIET)
    with pytest.raises(ValueError, match=r"another study \(ablate-pairs\): choose another --output"):
        compare(request, execute=FakeExecutor())
    assert (tmp_path / "out" / "report.html").read_bytes() == before
    other = {"output": tmp_path / "compared"}
    compare(ComparisonRequest(folder=phantom, methods="cvm", only="0", knobs=QUIET, **other), execute=FakeExecutor())
    with pytest.raises(ValueError, match=r"another study \(compare\): choose another --output"):
        ask(**other)


def test_the_runs_are_nested_under_one_run_of_the_ablation(ask, tmp_path):
    ask(only="0", values="1", knobs=())
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlruns.db")
    (run,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert run.info.run_name.startswith("ablate-pairs")
    assert {place.parent_run_id for place in ask.executor.places} == {run.info.run_id}
    assert run.data.tags["ablation"] == "pairs"
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"what": "lam"}, "--what must be one of pairs, eta, solver, got 'lam'"),
        ({"values": "0"}, "--values must be whole numbers of at least 1"),
        ({"knobs": ("--pairs", "3")}, "the comparison sets --pairs itself: the ablation varies it"),
        ({"knobs": ("--max_epoch", "3")}, "did you mean --max_epochs"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_before_any_training(ask, changes, message):
    with pytest.raises(ValueError, match=message):
        ask(**changes)
    assert ask.executor.done == []
