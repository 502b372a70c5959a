"""`cvm-monai predict`: slides in, results and an exit code out."""

import json

import numpy as np
import pytest
import tifffile
import torch

from cvm_monai.cli.main import main
from cvm_monai.networks import build_network

CHANNELS = [4, 8, 8, 8, 8]


@pytest.fixture
def training(tmp_path):
    """What a training leaves."""
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(
        build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), folder / "models" / "model.pt"
    )
    known = {"network": "unet", "network_channels": CHANNELS, "scale": 1.0, "mpp": 0.5}
    (folder / "run.json").write_text(json.dumps({"knobs": known}))
    return folder


def slide(path, *, mpp=0.5):
    path.parent.mkdir(exist_ok=True)
    extra = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    image = np.full((70, 90, 3), (200, 40, 120), np.uint8)
    tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb", metadata=None, **extra)
    return str(path)


def predict(training, tmp_path, *more):
    return main(["predict", "--device", "cpu", *more, "--model", str(training), "--output", str(tmp_path / "out")])


def test_a_folder_of_slides_is_predicted_and_the_same_command_passes_over_them(training, tmp_path, capsys):
    for name in ("a", "b"):
        slide(tmp_path / "slides" / f"{name}.tif")
    more = (str(tmp_path / "slides"), "--tissue", "none", "--window", "64", "--batch_size", "2")
    assert predict(training, tmp_path, *more) == 0
    for name in ("a", "b"):
        record = json.loads((tmp_path / "out" / name / "run.json").read_text())
        assert record["status"] == "FINISHED"
        assert all((tmp_path / "out" / name / file).stat().st_size > 0 for file in record["files"])
    capsys.readouterr()
    assert predict(training, tmp_path, *more) == 0
    assert "slides: 0 predicted, 2 finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["unknown.tif"], "does not state its um/px: give --mpp"),
        (["missing.tif"], "missing.tif does not exist: give a slide, or a folder of slides"),
        (["good.tif", "--origin", "qupath"], "--origin must be one of level0, bounds, got 'qupath'"),
        (["good.tif", "--window", "100"], "window must be a multiple of 32 from 64 to 16384 pixels, got 100"),
        (["good.tif", "--window", "3200000"], "window must be a multiple of 32 from 64 to 16384 pixels, got 3200000"),
        (["good.tif", "--tissue", "missing.geojson"], "there is no mask of tissue at missing.geojson"),
        (["good.tif", "--model_mpp", "-1"], "--model_mpp must be a number of um/px greater than 0, got -1.0"),
        (["good.tif", "--device", "gpu"], "--device gpu cannot be used: "),
        (["good.tif", "--device", "cuda:99"], "--device cuda:99 cannot be used: "),
        (["good.tif", "--batch_size", "0"], "--batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_input_ends_with_2_and_one_sentence_before_any_work(
    training, tmp_path, capsys, monkeypatch, more, sentence
):
    slide(tmp_path / "good.tif")
    slide(tmp_path / "unknown.tif", mpp=None)
    monkeypatch.chdir(tmp_path)
    assert predict(training, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("cvm-monai: error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_slide_that_fails_beside_another_ends_with_1(training, tmp_path, capsys):
    (tmp_path / "bad.tif").write_bytes(b"")
    good = slide(tmp_path / "good.tif")
    assert predict(training, tmp_path, str(tmp_path / "bad.tif"), good, "--tissue", "none") == 1
    assert "bad.tif is empty (0 bytes)" in capsys.readouterr().out
    assert (tmp_path / "out" / "good" / "regions.geojson").is_file()
