"""`run.json` beside outputs: what it holds, that it replaces no other record, that failures leave it alone."""

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
from ignite.engine import Engine

from cvm_monai.cli.main import main
from cvm_monai.engines import OutputRecorder
from cvm_monai.provenance import OutputRecord

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
FACTS = {"kind", "started", "ended", "command", "host", "configuration", "seed", "python", "versions", "commit"}


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.bin"
    file.write_bytes(b"abc")
    return {"data": file}


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
    assert main(["prepare", str(folder), "--out", str(out)]) == 0
    before = (out / "run.json").read_bytes()
    assert main(["prepare", str(folder), "--out", str(out), "--pairs", "0"]) == 2
    assert (out / "run.json").read_bytes() == before
