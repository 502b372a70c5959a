"""The examples in the docstrings of the front door run, and each name has one."""

import doctest
import json

import pytest
import torch

import cvm_monai as cvm
from cvm_monai.cli.main import main

CHANNELS = [4, 4, 8, 8, 8]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a phantom and an untrained run, where the examples find them."""
    place = tmp_path_factory.mktemp("examples")
    assert main(["phantom", str(place / "data" / "phantom"), "--cases", "4", "--size", "64"]) == 0
    run = place / "runs" / "mine"
    (run / "models").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(cvm.build_network("unet", channels=CHANNELS).state_dict(), run / "models" / "model.pt")
    knobs = {"network": "unet", "network_channels": CHANNELS, "normalisation": "instance"}
    (run / "run.json").write_text(json.dumps({"knobs": knobs}))
    return place


@pytest.mark.parametrize("name", cvm.__all__)
def test_the_examples_of_a_name_run(name, place, monkeypatch):
    monkeypatch.chdir(place)
    tests = [
        one for one in doctest.DocTestFinder(recurse=False).find(getattr(cvm, name), name, globs={}) if one.examples
    ]
    assert tests, f"cvm.{name} has no example"
    told: list[str] = []
    for one in tests:
        assert doctest.DocTestRunner().run(one, out=told.append).failed == 0, "".join(told)
