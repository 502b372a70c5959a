"""MLflow's database: made by one process while others wait, and without strays."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from cvm_monai.runs.store import client_of, sqlite_address
from cvm_monai.runs.tracking import TrackedRun

PRELOAD = ["mlflow.store.tracking.sqlalchemy_store", "cvm_monai.runs.tracking"]


def make_and_run(file: Path, name: str, together: Any) -> None:
    """A run in a store that three processes find missing at the same moment."""
    together.wait()
    run = TrackedRun(tracking_uri=sqlite_address(file), experiment="shared", artifact_dir=file.parent / "mlruns")
    run.start(name)
    run.end("FINISHED")


def test_trainings_that_make_one_store_at_the_same_moment_all_find_it(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # MLflow is imported once, in the process that the others are forked from
    names, together, file = [f"training {number}" for number in range(3)], context.Barrier(3), tmp_path / "mlruns.db"
    jobs = [context.Process(target=make_and_run, args=(file, name, together)) for name in names]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    client = client_of(sqlite_address(file))
    experiment = client.get_experiment_by_name("shared")
    assert sorted(run.info.run_name for run in client.search_runs([experiment.experiment_id])) == names
    assert not list(tmp_path.glob(".*.lock"))


def test_a_quoted_address_leaves_no_folder_of_its_own(tmp_path):
    folder = tmp_path / "a?b"
    folder.mkdir()
    client = client_of(sqlite_address(folder / "mlruns.db"))
    client.create_experiment("e")
    client.create_registered_model("m")
    assert os.listdir(tmp_path) == ["a?b"]
    assert os.listdir(folder) == ["mlruns.db"]


def test_a_file_that_is_no_database_is_one_sentence_at_once(tmp_path):
    (tmp_path / "mlruns.db").mkdir()
    with pytest.raises(ValueError, match=r"the MLflow database .*/mlruns\.db is a folder; name another"):
        client_of(sqlite_address(tmp_path / "mlruns.db"))
    with pytest.raises(ValueError, match=r"cannot be made: there is no folder .*/missing; name another"):
        client_of(sqlite_address(tmp_path / "missing" / "mlruns.db"))
