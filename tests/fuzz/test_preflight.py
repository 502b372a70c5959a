"""A training's checks on broken data lists and knobs: they pass, or end with one sentence and code 2."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.knobs import names

from . import broken_texts
from .cases import SEED
from .expected import check_code
from .watch import hashes, run

BUNDLE = Path(__file__).parents[2] / "bundle"


def default_knobs() -> dict[str, Any]:
    """The knobs of train.yaml and their defaults; those that it computes have the value of a plain run."""
    config = read_config(BUNDLE / "configs" / "train.yaml")
    plain: dict[str, Any] = {"encoder_norm": None, "dataset_dir": "data", "output_dir": "out"}
    plain |= {"classes": 2, "augmentation": "standard", "device": "cpu", "amp": False, "tracking_uri": "none"}
    return {name: plain.get(name, config[name]) for name in names(recorded=True)}


KNOBS = default_knobs()


@pytest.fixture
def preflight(monkeypatch, tmp_path):
    """The bundle's script, found as a running configuration finds it, where relative folders are the case's own.

    Among the broken values are `text` and `../../etc`, and a training makes its output folder where it is started.
    """
    working = tmp_path / "where" / "started"
    working.mkdir(parents=True)
    monkeypatch.chdir(working)
    monkeypatch.syspath_prepend(str(BUNDLE))
    before = {name for name in sys.modules if name.partition(".")[0] == "scripts"}
    yield importlib.import_module("scripts.before_training").preflight
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts" and name not in before]:
        del sys.modules[name]


def values():
    """What may stand after a knob, as MONAI reads it."""
    for text in broken_texts.RAW:
        try:
            yield json.loads(text)
        except (ValueError, RecursionError):
            continue


@pytest.fixture
def good(tmp_path, training):
    """The knobs of a training that passes, and the folder of its data set."""
    shutil.copytree(training / "data", tmp_path / "data")
    return KNOBS | {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}, tmp_path / "data"


def ended(preflight, knobs):
    """How the checks of these knobs end."""

    def command(argv):
        try:
            preflight(knobs)
        except SystemExit as stop:
            return int(stop.code)
        return 0

    return run(command, ())


def test_good_data_and_knobs_pass(preflight, good):
    outcome = ended(preflight, good[0])
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("folder", ["text", "../../etc"])
def test_a_relative_output_folder_is_made_where_the_training_is_started(folder, preflight, good, tmp_path):
    outcome = ended(preflight, good[0] | {"output_dir": folder})
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / "where" / "started" / folder).resolve().is_dir()
    assert Path.cwd() == tmp_path / "where" / "started"


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n % 4 == 0 else pytest.mark.ci) for n in range(80)])
def test_a_broken_data_list_or_knob_ends_with_one_sentence(number, preflight, good):
    rng = np.random.default_rng([SEED, 99, number])
    knobs, folder = good
    if number % 2:
        file = folder / "datalist.json"
        file.write_bytes(broken_texts.broken_json(rng, json.loads(file.read_text())))
    else:
        broken, every = list(values()), [*KNOBS]
        knobs[every[rng.integers(len(every))]] = broken[rng.integers(len(broken))]
    before = hashes(folder)
    outcome = ended(preflight, knobs)
    assert hashes(folder) == before
    check_code("preflight", number, outcome)
    if outcome.code:
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        assert line.startswith("error: ")
        assert len(line) <= 1000
        assert any(name in line for name in KNOBS) or "datalist.json" in line or str(folder) in line
    else:
        assert outcome.err == ""
