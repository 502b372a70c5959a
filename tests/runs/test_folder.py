"""`run.json`: attempts and ends of a run; beside outputs what it holds, and that it replaces no other record."""

import json
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from cvm_monai.cli.main import main
from cvm_monai.engines import OutputRecorder
from cvm_monai.runs import OutputRecord, RunFolder, folder
from cvm_monai.runs.folder import plain

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
FACTS = {"kind", "started", "ended", "command", "host", "configuration", "seed", "python", "versions", "commit"}


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.bin"
    file.write_bytes(b"abc")
    return {"data": file}


def test_a_run_records_its_request_its_attempts_and_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/some/where/monai", "run", "training", "--lam", "3"])
    run = RunFolder(tmp_path / "out")
    assert (run.known, run.finished) == ({}, False)
    record = run.begin({"kind": "training", "knobs": {"lam": 3, "path": Path("a")}}, rows=7)
    (attempt,) = record["attempts"]
    assert (record["status"], record["kind"], attempt["rows"]) == ("RUNNING", "training", 7)
    assert attempt["command"] == ["monai", "run", "training", "--lam", "3"]
    assert attempt["process"] == os.getpid()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", attempt["started"])
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert run.known == record | {"knobs": {"lam": 3, "path": "a"}}
    run.update(diverged="yes")
    run.end("FAILED", error="no", seconds=1.5)
    found = run.known
    assert (found["status"], found["diverged"], found["seconds"]) == ("FAILED", "yes", 1.5)
    assert found["attempts"] == [attempt | {"status": "FAILED", "ended": found["ended"], "error": "no"}]
    assert not run.finished


def test_an_attempt_without_an_end_was_killed_and_those_before_stay_where_the_run_goes_on(tmp_path):
    run = RunFolder(tmp_path)
    for goes_on in (False, True, True):
        run.begin({}, goes_on=goes_on)
    run.end("FINISHED")
    assert [attempt["status"] for attempt in run.known["attempts"]] == ["KILLED", "KILLED", "FINISHED"]
    assert run.finished
    run.begin({"new": 1})
    assert [attempt["status"] for attempt in run.known["attempts"]] == ["RUNNING"]


@pytest.mark.parametrize("content", ['{"attempts": 3}', "[]", "{", '{"attempts": [1]}', '{"status": ["FINISHED"]}'])
def test_a_record_that_is_none_is_begun_anew(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    run = RunFolder(tmp_path)
    assert not run.finished
    run.begin({}, goes_on=True)
    run.end("FINISHED")
    assert [attempt["status"] for attempt in run.known["attempts"]] == ["FINISHED"]


def test_a_record_says_how_an_output_came_about(tmp_path, data):
    record = OutputRecord("prepare", configuration={"pairs": 5, "out": Path("x")}, seed=3)
    found = json.loads(record.write(tmp_path / "new", data=data).read_text())
    assert set(found) == FACTS | {"sha256"}
    assert (found["kind"], found["seed"], found["sha256"]) == ("prepare", 3, {"data": ABC})
    assert found["configuration"] == {"pairs": 5, "out": "x"}
    assert datetime.fromisoformat(found["started"]) <= datetime.fromisoformat(found["ended"])
    assert re.fullmatch(r"[0-9a-f]{40}", found["commit"] or "0" * 40)


def test_the_same_command_replaces_its_record_and_leaves_that_of_another(tmp_path, data):
    first = OutputRecord("training", configuration={}).write(tmp_path, data=data)
    before = first.read_bytes()
    for pairs in (1, 2):
        second = OutputRecord("inference", configuration={"pairs": pairs}).write(tmp_path, data=data)
    assert (first.name, second.name) == ("run.json", "run_inference.json")
    assert first.read_bytes() == before
    assert json.loads(second.read_text())["configuration"] == {"pairs": 2}


@pytest.mark.parametrize("content", ["{", "[]", '{"knobs": {}}', "3"])
def test_a_file_that_is_no_known_record_is_not_replaced(tmp_path, data, content):
    (tmp_path / "run.json").write_text(content)
    assert OutputRecord("inference", configuration={}).write(tmp_path, data=data).name == "run_inference.json"
    assert (tmp_path / "run.json").read_text() == content


def test_an_output_of_one_file_has_its_record_beside_it(tmp_path, data):
    path = OutputRecord("export", configuration={}).write_beside(tmp_path / "net.onnx", data=data)
    assert path == tmp_path / "net.onnx.run.json"


def test_an_engine_s_output_is_recorded_when_it_has_run_to_its_end(tmp_path, data):
    def fail(engine, batch):
        if batch == 2:
            raise ValueError("two")

    recorder = OutputRecorder(
        kind="inference",
        folder=str(tmp_path / "out"),
        knobs={"window": 64},
        files=[str(data["data"])],
        records=[{"image": str(data["data"])}],
    )
    engine = Engine(fail)
    recorder.attach(engine)
    with pytest.raises(ValueError, match="two"):
        engine.run([1, 2])
    assert not (tmp_path / "out").exists()
    engine = Engine(lambda engine, batch: None)
    recorder.attach(engine)
    engine.run([1])
    found = json.loads((tmp_path / "out" / "run.json").read_text())
    assert found["configuration"] == {"window": 64}
    assert found["sha256"] == {"data.bin": ABC, str(data["data"]): ABC}


def test_data_sets_are_recorded_and_a_failed_preparation_keeps_the_record(tmp_path):
    folder = tmp_path / "phantom"
    words = ["phantom", str(folder), "--cases", "4", "--size", "64", "--seed", "7"]
    assert main(words) == 0
    first = json.loads((folder / "run.json").read_text())
    assert (first["kind"], first["seed"], first["configuration"]["cases"]) == ("phantom", 7, 4)
    assert set(first["sha256"]) == {"datalist.json"}
    assert main(words) == 0  # the record is no part of the data set, whose bytes are those of the seed again
    assert json.loads((folder / "run.json").read_text())["sha256"] == first["sha256"]
    out = tmp_path / "out"
    assert main(["prepare", str(folder), "--output", str(out)]) == 0
    before = (out / "run.json").read_bytes()
    assert main(["prepare", str(folder), "--output", str(out), "--pairs", "0"]) == 2
    assert (out / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "value, expected",
    [
        ((1, "a", None), [1, "a", None]),
        ({1: torch.device("cpu")}, {"1": "cpu"}),
        (Path("a") / "b", "a/b"),
        (True, True),
        (0.5, 0.5),
    ],
)
def test_values_become_what_json_holds(value, expected):
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_the_commit_is_that_of_a_checkout_and_not_of_a_repository_around_an_installed_package(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    file = tmp_path / "cvm_monai" / "runs" / "folder.py"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "other").touch()
    monkeypatch.setattr(folder, "__file__", str(file))
    for command in (["init", "-q"], ["add", "other"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    assert folder._commit() is None
    for command in (["add", "."], ["commit", "-q", "-m", "second"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert folder._commit() == head
    monkeypatch.setenv("PATH", "")
    assert folder._commit() is None
