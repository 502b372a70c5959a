"""MLflow's database: made by one process while others wait, and without strays."""

import os
import subprocess
import sys

import pytest

from cvm_monai.engines.store_address import sqlite_address
from cvm_monai.engines.store_opening import client_of

START = """
import sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from cvm_monai.engines.tracking import TrackedRun
from cvm_monai.engines.store_address import sqlite_address
file = Path(sys.argv[1])
(file.parent / sys.argv[2]).touch()
while len(list(file.parent.glob("ready*"))) < 3: time.sleep(0.005)
run = TrackedRun(tracking_uri=sqlite_address(file), experiment="shared", artifact_dir=file.parent / "mlruns")
run.start(sys.argv[2])
run.end("FINISHED")
"""


def test_trainings_that_make_one_store_at_the_same_moment_all_find_it(tmp_path):
    command = [sys.executable, "-c", START, str(tmp_path / "mlruns.db")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    jobs = [
        subprocess.Popen([*command, f"ready{number}"], env=environment, stderr=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    said = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], said
    client = client_of(sqlite_address(tmp_path / "mlruns.db"))
    experiment = client.get_experiment_by_name("shared")
    assert {run.info.run_name for run in client.search_runs([experiment.experiment_id])} == {
        "ready0",
        "ready1",
        "ready2",
    }
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
