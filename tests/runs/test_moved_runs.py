"""A run folder that is moved or copied keeps its MLflow run, and writes where it is now."""

import json
import os
import shutil

import mlflow
import pytest

from cvm_monai.files import write_json
from cvm_monai.runs.outbox import FILE, Outbox
from cvm_monai.runs.store import follow_move, recorded_store, sqlite_address
from cvm_monai.runs.tracking import TrackedRun, send_waiting


def tracked(folder, **options) -> TrackedRun:
    return TrackedRun(
        tracking_uri=sqlite_address(folder / "mlruns.db"), experiment="e", artifact_dir=folder / "mlruns", **options
    )


@pytest.fixture
def old(tmp_path):
    """The folder of a run with one file."""
    folder = tmp_path / "old ä"
    folder.mkdir()
    run = tracked(folder)
    run.start("one")
    (folder / "a.txt").write_text("a")
    run.artifact(folder / "a.txt")
    write_json(folder / "run.json", {"mlflow_run_id": run.run_id, "mlflow_tracking_uri": run.tracking_uri})
    return folder


def run_id_of(folder) -> str:
    return json.loads((folder / "run.json").read_text())["mlflow_run_id"]


def names(folder) -> set[str]:
    client = mlflow.MlflowClient(tracking_uri=sqlite_address(folder / "mlruns.db"))
    return {file.path for file in client.list_artifacts(run_id_of(folder))}


@pytest.mark.parametrize("go_on", [TrackedRun.join, TrackedRun.go_on])
def test_a_moved_run_goes_on_where_it_is(old, tmp_path, go_on):
    new = tmp_path / "new"
    old.rename(new)
    run = tracked(new)
    assert go_on(run, run_id_of(new))
    (new / "b.txt").write_text("b")
    run.artifact(new / "b.txt")
    assert names(new) == {"a.txt", "b.txt"}
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("way", [shutil.copytree, shutil.move])
def test_a_new_run_in_a_moved_or_copied_folder_writes_there(old, tmp_path, way):
    new = tmp_path / "new"
    way(old, new)
    before = sorted(tmp_path.rglob("*.txt"))
    run = tracked(new)
    run.start("two")
    run.artifact(new / "a.txt")
    (written,) = set(tmp_path.rglob("*.txt")) - set(before)
    assert new in written.parents
    assert names(new) == {"a.txt"}


def test_a_copy_s_record_means_the_copy_s_database(old, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(old, new)
    recorded = json.loads((new / "run.json").read_text())["mlflow_tracking_uri"]
    assert recorded_store(recorded, output_dir=new) == sqlite_address(new / "mlruns.db")
    assert recorded_store(recorded, output_dir=old) == recorded


def test_a_database_that_others_share_keeps_its_places(old, tmp_path):
    uri, recorded = sqlite_address(old / "mlruns.db"), (old / "mlruns").as_uri()
    assert not follow_move(uri, recorded=recorded, now=tmp_path / "other" / "mlruns")
    assert not follow_move(uri, recorded="mlflow-artifacts:/1", now=tmp_path / "mlruns")
    assert not follow_move("http://127.0.0.1:5000", recorded="file:///gone/mlruns", now=tmp_path / "mlruns")


def test_what_waits_in_a_moved_folder_is_sent_from_there(old, tmp_path):
    waiting = tracked(old, outbox=old / FILE)
    waiting.join(run_id_of(old))
    waiting.outbox.add(
        [
            {"kind": "artifact", "run_id": run_id_of(old), "path": waiting.outbox.name_of(old / "a.txt")}
            | {"folder": "later", "temporary": False}
        ]
    )
    new = tmp_path / "new"
    old.rename(new)
    assert Outbox(new / FILE).entries()[0]["path"] == "a.txt"
    assert send_waiting(new) == 1
    assert names(new) == {"a.txt", "later"}
    assert os.listdir(tmp_path) == ["new"]
