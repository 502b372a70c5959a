"""Folders whose names hold what MONAI's configurations, Python Fire or a database's address take as their own."""

import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path

import mlflow
import monai
import pytest
from monai.bundle import ConfigParser

from cvm_monai.bundle_files import as_entry
from cvm_monai.runs.store import database_file, sqlite_address

from .conftest import INFERENCE, SMALL, TRAIN
from .test_scripts import script  # noqa: F401

ODD = ["a%41b", "a%20b", "what?", "a?x=1", "a b,c", "Müller & Co;", "(x)", "n\nl"]
QUICK = SMALL | {"max_epochs": 1, "supervision": "partial_ce"}


@pytest.mark.parametrize("name", [*ODD, "a#b", "a::b", "$x@y"])
def test_a_database_s_address_means_its_file_whatever_its_name(tmp_path, name):
    file = tmp_path / name / "mlruns.db"
    assert database_file(sqlite_address(file)) == file
    assert not set("#?") & set(sqlite_address(file).removeprefix("sqlite:///"))


@pytest.mark.parametrize("uri", ["sqlite:////tmp/what?/m.db", "sqlite:////tmp/a?x=1/m.db", "sqlite:///", "sqlite:///?"])
def test_an_address_that_means_another_file_is_refused(uri):
    with pytest.raises(
        ValueError, match=r"is not the address of a database file: use sqlite:////path/mlruns\.db, with %3F"
    ):
        database_file(uri)


def test_an_address_may_hold_the_library_s_options():
    assert database_file("sqlite:////tmp/m.db?timeout=30") == Path("/tmp/m.db")
    assert database_file("http://127.0.0.1:5000") is None


@pytest.mark.parametrize("name", ["a%41b?x=1", "a b,c"])
def test_a_training_writes_where_it_is_asked_to(phantom, tmp_path, name):
    output = tmp_path / name
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(output), **QUICK)
    assert os.listdir(tmp_path) == [name]
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "FINISHED"
    client = mlflow.MlflowClient(tracking_uri=record["mlflow_tracking_uri"])
    files = {artifact.path for artifact in client.list_artifacts(record["mlflow_run_id"])}
    assert "config.json" in files
    assert database_file(record["mlflow_tracking_uri"]) == output / "mlruns.db"
    assert list((output / "mlruns").rglob("config.json"))


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("runs/a#b", "runs/a::b: MONAI reads '#' and '::' as steps"),
        (("a", "b"), "a,b is read as a list: for a folder of that name write ./a,b"),
        (["a", 1], "a,1 is read as a list: for a folder of that name write ./a,1"),
        ("$open('pwned', 'w')", "runs a value that begins with '$': for a folder of that name write ./$open"),
        ("$HOME", "runs a value that begins with '$': for a folder of that name write ./$HOME"),
        ("$(pwd)", r"runs a value that begins with '$'"),
        ("@home", "looks '@' up among its entries: for a folder of that name write ./@home"),
        (2024, "must be a path or an address, got 2024: for a folder of that name write ./2024"),
        ({"a": 1}, "must be a path or an address, got {'a': 1}"),
        ("", "must be a path or an address, got ''"),
    ],
)
@pytest.mark.parametrize("knob", ["output_dir", "dataset_dir"])
def test_a_path_that_monai_takes_for_its_own_syntax_is_refused_before_anything_is_done(
    phantom, tmp_path, monkeypatch, capsys, knob, value, sentence
):
    monkeypatch.chdir(tmp_path)
    place = {"dataset_dir": phantom, "output_dir": str(tmp_path / "run")} | {knob: value}
    for run_id, config in (("training", TRAIN), ("inference", INFERENCE)):
        with pytest.raises(SystemExit, match=r"^2$"):
            monai.bundle.run(run_id, config_file=config, **place)
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith(f"error: --{knob} ")
        assert sentence in lines[-1]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--max_epoch", "2"], "--max_epoch is not a knob of this configuration: did you mean --max_epochs?"),
        (
            ["--learning-rates=0.1"],
            "--learning_rates is not a knob of this configuration: did you mean --learning_rate?",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import")
def test_a_misspelt_knob_of_the_command_line_is_refused(phantom, tmp_path, monkeypatch, capsys, words, sentence):
    program = importlib.util.find_spec("monai.bundle.__main__").origin
    command = [program, "run", "training", "--config_file", TRAIN, "--fold", "99", "--dataset_dir", phantom]
    monkeypatch.setattr(sys, "argv", [*command, "--output_dir", str(tmp_path / "run"), *words])
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_module("monai.bundle", run_name="__main__")
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"error: {sentence}"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "typed, sentence",
    [
        ("a#b", "--output_dir a#b: MONAI reads '#' and '::' as steps"),
        ("(a)", "--output_dir (a) is read as 'a': for a folder of that name write ./(a)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import")
def test_what_the_command_line_loses_is_refused(phantom, tmp_path, monkeypatch, capsys, typed, sentence):
    """`python -m monai.bundle run training ...`, in this process, which has MONAI already."""
    program = importlib.util.find_spec("monai.bundle.__main__").origin
    command = [program, "run", "training", "--config_file", TRAIN, "--fold", "99"]  # nothing is trained in any case
    monkeypatch.setattr(sys, "argv", [*command, "--dataset_dir", phantom, "--output_dir", typed])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_module("monai.bundle", run_name="__main__")
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {sentence}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["/a#b", "/a::b,c", "$x", "@x", "%x", "a,b", "2024", "None", "/plain", "runs/a", "ä#'\\"]
)
def test_an_entry_means_its_path_and_no_other(name):
    parser = ConfigParser({"path": as_entry(name)})
    assert parser.get_parsed_content("path") == name


@pytest.mark.parametrize("written", ["$@bundle_root + '/x'", "$'a\\x23b'", {"_target_": "x"}, "./$x", "./a,b", "@eval"])
def test_what_a_configuration_computes_is_let_through(script, monkeypatch, written):  # noqa: F811
    places = script("places")
    monkeypatch.setattr(places, "active_parser", lambda: ConfigParser({"bundle_root": "/b", "eval": "/b/e"}))
    assert places.check_place("output_dir", written) is None


def test_a_moved_training_is_resumed_where_it_is(phantom, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    settings = QUICK | {"dataset_dir": phantom, "checkpoint_seconds": 0}
    monai.bundle.run("training", config_file=TRAIN, output_dir=str(old), **settings)
    old.rename(new)
    settings |= {"resume": "auto", "max_epochs": 2}
    monai.bundle.run("training", config_file=TRAIN, output_dir=str(new), **settings)
    assert os.listdir(tmp_path) == ["new"]
    record = json.loads((new / "run.json").read_text())
    assert (record["status"], record["resumed"]) == ("FINISHED", 1)
    client = mlflow.MlflowClient(tracking_uri=record["mlflow_tracking_uri"])
    assert database_file(record["mlflow_tracking_uri"]) == new / "mlruns.db"
    assert {"config.json", "model"} <= {file.path for file in client.list_artifacts(record["mlflow_run_id"])}
