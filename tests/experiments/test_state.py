"""What is left of a run decides whether it is done again."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.state import Cost, close_run, note_process, open_run, read_cost, run_state

from .conftest import finish

ASKED = {"max_epochs": 3, "fold": 0}
COST = Cost(10.0, 2.0, 300.0)


@pytest.fixture
def run(tmp_path):
    return Run("cvm", 0, 0, tmp_path / "runs" / "cvm" / "fold0_seed0", {})


@pytest.fixture
def finished(run):
    open_run(run, ASKED)
    finish(run, {"a": 0.5})
    close_run(run, cost=COST)
    return run


def test_a_complete_run_is_finished_and_knows_its_cost(finished):
    assert run_state(finished, ASKED) == "finished"
    assert read_cost(finished) == COST


def test_a_run_without_a_folder_is_to_do(run):
    assert run_state(run, ASKED) == "to do"


def test_a_finished_run_of_another_configuration_is_refused_by_name(finished):
    with pytest.raises(ValueError, match=r"fold0_seed0 is finished with another .*: max_epochs was 3 and is 4; "):
        run_state(finished, ASKED | {"max_epochs": 4})


def test_a_run_of_an_earlier_version_is_known(finished):
    marker = {"state": "finished", "configuration": ASKED, "process": 1, "cost": asdict(COST)}
    (finished.folder / "compare.json").write_text(json.dumps(marker))
    assert run_state(finished, ASKED) == "finished"
    assert read_cost(finished) == COST
    (finished.folder / "compare.json").write_text(json.dumps(marker | {"state": "failed"}))
    assert run_state(finished, ASKED) == "to do"


@pytest.mark.parametrize("file", ["models/model.pt", "evaluation/per_case.csv", "run.json"])
def test_a_run_that_lost_a_file_is_to_do_again(finished, file):
    (finished.folder / file).unlink()
    assert run_state(finished, ASKED) == "to do"


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_a_training_that_did_not_end_well_is_to_do_again(finished, status):
    (finished.folder / "run.json").write_text(json.dumps({"status": status}))
    assert run_state(finished, ASKED) == "to do"


def test_a_failed_run_is_to_do_again_whatever_its_configuration(run):
    open_run(run, ASKED)
    finish(run, {"a": 0.5})
    close_run(run, cost=None)
    assert run_state(run, {"max_epochs": 4}) == "to do"


def test_an_interrupted_run_is_removed_before_it_begins_anew(run):
    open_run(run, ASKED)
    (run.folder / "half").touch()
    assert run_state(run, ASKED) == "to do"
    open_run(run, ASKED)
    assert sorted(os.listdir(run.folder)) == ["compare.json"]
    assert os.listdir(run.folder.parent) == ["fold0_seed0"]


def test_what_a_kill_left_of_a_run_is_removed_and_no_folder_of_somebody_else(run):
    beside = run.folder.parent
    (beside / ".fold0_seed0.removed" / "models").mkdir(parents=True)  # as earlier versions named it
    (beside / ".fold0_seed0.part-0123abcd" / "fold0_seed0").mkdir(parents=True)
    (run.folder / ".compare.json.part-0123abcd").mkdir(parents=True)
    assert run_state(run, ASKED) == "to do"
    open_run(run, ASKED)
    assert os.listdir(beside) == ["fold0_seed0"]
    assert os.listdir(run.folder) == ["compare.json"]


def test_somebody_else_s_folder_is_never_removed(run):
    run.folder.mkdir(parents=True)
    (run.folder / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds files that are not a run of a comparison: give another --output"):
        run_state(run, ASKED)


def test_a_process_that_outlived_the_comparison_is_named(run):
    open_run(run, ASKED)
    code = "import time; print('started', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(run.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the kernel shows its words from now on
        note_process(run, process.pid)
        try:
            with pytest.raises(ValueError, match=f"process {process.pid} still works in .*: wait for it, or end it"):
                run_state(run, ASKED)
        finally:
            process.kill()
    assert run_state(run, ASKED) == "to do"
