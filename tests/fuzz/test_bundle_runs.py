"""The bundle's own entry, `monai.bundle.run`, with a knob that it cannot have: one sentence and code 2, or it works.

The training's parts are all made, and its run is left out. Mistakes in the text of a configuration are MONAI's to tell.
"""

import json
import shutil
import warnings
from typing import Any

import monai
import numpy as np
import pytest

from cvm_monai.knobs import names as recorded

from .broken_texts import RAW
from .cases import SEED
from .configurations import read, small_bundle
from .expected import check_code
from .watch import Outcome, hashes, run

RUN = {"_target_": "types.SimpleNamespace", "run": "$lambda: None", "made": ["@train#trainer", "@validate#evaluator"]}
"""In place of the trainer: its run does nothing, but all that it consists of is made."""

FREE = ("output_dir", "dataset_dir", "tracking_uri", "run_name", "experiment_name", "parent_run_id")
"""Texts, of which nearly every one is right; the command line's options try them."""


def values() -> list[Any]:
    """What may stand after a knob in a file."""
    found = []
    for text in RAW:
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return found


@pytest.fixture(autouse=True)
def monai_as_it_was():
    """The bundle switches MONAI's meta tensors off and seeds everything."""
    yield
    monai.data.set_track_meta(True)
    monai.utils.set_determinism(None)


def bundle_run(run_id: str, config: list[str], **changes: Any) -> Outcome:
    """`python -m monai.bundle run RUN_ID --config_file CONFIG`, ended as a process is."""

    def command(argv):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="monai.bundle")
            try:
                monai.bundle.run(run_id, config_file=config, logging_file=False, **changes)
            except SystemExit as stop:
                return int(stop.code)
        return 0

    return run(command, ())


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n % 10 == 0 else pytest.mark.ci) for n in range(100)])
def test_a_broken_knob_of_a_configuration_ends_with_one_sentence(number, tmp_path, training):
    rng = np.random.default_rng([SEED, 98, number])
    bundle, data, out = small_bundle(tmp_path), tmp_path / "input" / "data", tmp_path / "out"
    shutil.copytree(training / "data", data)
    file = bundle / "configs" / "train.yaml"
    content, broken = read(file), values()
    places = {"dataset_dir": str(data), "output_dir": str(out), "tracking_uri": "none"}
    names = [*(name for name in recorded(recorded=True) if name not in FREE), "val_interval", "checkpoint_seconds"]
    name = names[rng.integers(len(names))]
    value = broken[rng.integers(len(broken))]
    making = {"nothing": RUN, "making": {"_target_": "scripts.launch", "engine": "nothing"}}
    file.write_text(json.dumps(content | places | making | {name: value}))
    before = hashes(tmp_path / "input")
    outcome = bundle_run("making", str(file))
    assert hashes(tmp_path / "input") == before
    check_code("trainings", number, outcome)
    check_end(outcome, name)


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n % 10 == 0 else pytest.mark.ci) for n in range(30)])
def test_a_broken_knob_of_an_inference_ends_with_one_sentence(number, tmp_path, training):
    rng = np.random.default_rng([SEED, 97, number])
    bundle, data, run_folder = small_bundle(tmp_path), tmp_path / "input" / "data", tmp_path / "run"
    shutil.copytree(training / "data", data)
    for file in ("mask.png", "datalist.json", "a.geojson"):
        (data / file).unlink()
    shutil.copytree(training, run_folder)
    file = bundle / "configs" / "inference.yaml"
    content, broken = read(file), values()
    places = {"dataset_dir": str(data), "output_dir": str(run_folder), "device": "cpu", "image_mpp": 0.5}
    known = [name for name in recorded(recorded=True, run="inference") if name in content]
    names = [name for name in known if name not in ("dataset_dir", "output_dir", "prediction_dir")]
    name = names[rng.integers(len(names))]
    value = broken[rng.integers(len(broken))]
    file.write_text(json.dumps(content | places | {"nothing": [], name: value}))
    before = hashes(tmp_path / "input")
    outcome = bundle_run("nothing", str(file))
    assert hashes(tmp_path / "input") == before
    check_code("inferences", number, outcome)
    check_end(outcome, name)


def check_end(outcome: Outcome, name: str) -> None:
    """Works without a word on stderr, or ends with 2 and one sentence that names the knob."""
    if outcome.code == 0:
        assert outcome.err == ""
        return
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert len(line) <= 1000
    assert name in line, line
