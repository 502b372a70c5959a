"""`python -m monai.bundle run inference_wsi`, in process: slides in, the same as `cvm-monai predict` out."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow

from cvm_monai.cli.main import main
from cvm_monai.networks import build_network

CONFIG = Path(__file__).resolve().parents[2] / "bundle" / "configs" / "inference_wsi.yaml"
CHANNELS = [4, 8, 8, 8, 8]


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """The workflow puts the bundle on the path; take it off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def training(tmp_path):
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(
        build_network("unet", out_channels=3, channels=CHANNELS, normalisation="batch").state_dict(),
        folder / "models" / "model.pt",
    )
    known = {"network": "unet", "network_channels": CHANNELS, "classes": 3, "scale": 1.0, "mpp": 0.5}
    (folder / "run.json").write_text(json.dumps({"knobs": known}))
    return folder


def slide(path, *, mpp):
    path.parent.mkdir(exist_ok=True)
    extra = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (20, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb", metadata=None, **extra)


def infer(training, slides, **override):
    knobs = {"dataset_dir": str(slides), "output_dir": str(training), "device": "cpu", "window": 64} | override
    bundle = ConfigWorkflow(
        config_file=str(CONFIG), workflow_type="infer", logging_file=False, run_id="inference_wsi", **knobs
    )
    bundle.initialize()
    bundle.run()
    bundle.finalize()
    return training / "slides"


def test_it_gives_what_the_command_gives(training, tmp_path):
    slide(tmp_path / "data" / "a.tif", mpp=0.5)
    folder = infer(training, tmp_path / "data", tissue="none", class_probabilities=True)
    arguments = ["--tissue", "none", "--window", "64", "--class_probabilities", "--device", "cpu"]
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "data"), "--model", str(training), "--output", str(out), *arguments]) == 0
    found, other = (json.loads((place / "a" / "run.json").read_text()) for place in (folder, out))
    assert found["settings"] == other["settings"]
    assert "probability_2.ome.tif" in found["files"]
    for name in found["files"]:
        if name.endswith(".tif"):
            np.testing.assert_array_equal(tifffile.imread(folder / "a" / name), tifffile.imread(out / "a" / name))
    assert (folder / "a" / "regions.geojson").read_bytes() == (out / "a" / "regions.geojson").read_bytes()


def test_errors_end_in_one_sentence_that_names_the_knob_and_exit_code_2(training, tmp_path, capsys):
    slide(tmp_path / "data" / "a.tif", mpp=None)
    with pytest.raises(SystemExit) as stop:
        infer(training, tmp_path / "data")
    assert stop.value.code == 2
    assert "a.tif does not state its um/px: give --image_mpp" in capsys.readouterr().err
    (training / "models" / "model.pt").unlink()
    with pytest.raises(SystemExit) as stop:
        infer(training, tmp_path / "data", image_mpp=0.5)
    assert stop.value.code == 2
    assert "there is no trained network at" in capsys.readouterr().err


def test_a_slide_that_fails_beside_another_ends_with_1(training, tmp_path):
    slide(tmp_path / "data" / "a.tif", mpp=0.5)
    (tmp_path / "data" / "b.tif").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        infer(training, tmp_path / "data", tissue="none")
    assert stop.value.code == 1
    assert json.loads((training / "slides" / "a" / "run.json").read_text())["status"] == "FINISHED"
