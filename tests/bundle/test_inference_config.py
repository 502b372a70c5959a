"""`python -m monai.bundle run inference`, in process: a folder of images in, probabilities and masks out."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from cvm_monai.bundle_files import read_config
from cvm_monai.inference import average_networks, load_network, predict
from cvm_monai.networks import build_network
from cvm_monai.slides import read_image

CONFIG = Path(__file__).resolve().parents[2] / "bundle" / "configs" / "inference.yaml"
CHANNELS = [4, 8, 8, 8, 8]
SHAPES = {"a": (64, 64), "b": (65, 130), "c": (300, 200)}


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """The workflow puts the bundle on the path; take it off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name, shape in SHAPES.items():
        coarse = rng.integers(0, 256, (-(-shape[0] // 8), -(-shape[1] // 8), 3), dtype=np.uint8)
        pixels = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))[: shape[0], : shape[1]]
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{name}.png")
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(
        build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), folder / "models" / "model.pt"
    )
    record(folder)
    return folder


def record(folder: Path, **knobs: object) -> None:
    """What a training writes."""
    known = {"network": "unet", "network_channels": CHANNELS, "scale": 1.0, "mpp": None} | knobs
    (folder / "run.json").write_text(json.dumps({"knobs": known}))


def workflow(data: Path, run: Path, **override: object) -> ConfigWorkflow:
    knobs = {"dataset_dir": str(data), "output_dir": str(run), "device": "cpu", "window": 128} | override
    return ConfigWorkflow(
        config_file=str(CONFIG), workflow_type="infer", logging_file=False, run_id="inference", **knobs
    )


def infer(data: Path, run: Path, **override: object) -> Path:
    """Run it all; the folder of predictions."""
    bundle = workflow(data, run, **override)
    bundle.initialize()
    bundle.run()
    bundle.finalize()
    return run / "prediction"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_image_gets_a_probability_and_a_mask_of_its_own_size_as_predict_gives_them(
    data, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    folder = infer(data, run)
    assert files(tmp_path) - before == {
        *(f"run/prediction/{c}_{k}.png" for c in SHAPES for k in ("probability", "mask")),
        "run/prediction/run.json",
    }
    network = load_network(run)
    for name, shape in SHAPES.items():
        probability = predict(network, read_image(data / "images" / f"{name}.png"), window=128)
        assert probability.shape == shape
        np.testing.assert_array_equal(Image.open(folder / f"{name}_probability.png"), np.rint(255 * probability))
        np.testing.assert_array_equal(Image.open(folder / f"{name}_mask.png"), np.where(probability > 0.5, 255, 0))


def test_the_recorded_scale_and_pixel_size_are_applied(data, run):
    network = load_network(run)
    image = read_image(data / "images" / "b.png")
    record(run, scale=0.5)
    folder = infer(data, run, images=["b.png"])
    expected = np.rint(255 * predict(network, image, scale=0.5))
    np.testing.assert_array_equal(Image.open(folder / "b_probability.png"), expected)
    record(run, mpp=1.0)
    folder = infer(data, run, images=["b.png"], image_mpp=0.25)
    expected = np.rint(255 * predict(network, image, scale=0.25))
    np.testing.assert_array_equal(Image.open(folder / "b_probability.png"), expected)
    assert files(folder) == {"b_probability.png", "b_mask.png", "run.json"}


def test_flips_and_the_networks_of_other_folds_are_averaged_on_request(data, run, tmp_path):
    other = tmp_path / "fold1"
    (other / "models").mkdir(parents=True)
    torch.manual_seed(1)
    torch.save(
        build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), other / "models" / "model.pt"
    )
    record(other)
    folder = infer(data, run, images=["a.png"], ensemble=[str(other)], test_time_flips=True)
    both = average_networks(load_network(run), ensemble=[other], flips=True)
    image = read_image(data / "images" / "a.png")
    expected = np.rint(255 * predict(both, image))
    np.testing.assert_array_equal(Image.open(folder / "a_probability.png"), expected)
    assert np.abs(expected - np.rint(255 * predict(load_network(run), image))).max() > 0


def test_formats_and_folder_can_be_chosen(data, run, tmp_path):
    infer(data, run, images="a.png", output_format="nifti", prediction_dir=str(tmp_path / "x"))
    infer(
        data, run, images="a.png", output_format="tiff", probability_type="float32", prediction_dir=str(tmp_path / "x")
    )
    expected = {f"a_{k}.{s}" for k in ("probability", "mask") for s in ("nii.gz", "tif")}
    assert files(tmp_path / "x") == expected | {"run.json"}


def test_predictions_in_the_training_s_own_folder_leave_its_record_as_it_was(data, run):
    before = (run / "run.json").read_bytes()
    infer(data, run, images="a.png", window=96, prediction_dir=str(run))
    assert (run / "run.json").read_bytes() == before
    found = json.loads((run / "run_inference.json").read_text())
    assert (found["kind"], found["configuration"]["window"], found["seed"]) == ("inference", 96, None)
    image, weights = data / "images" / "a.png", run / "models" / "model.pt"
    assert found["sha256"] == {
        str(image): hashlib.sha256(image.read_bytes()).hexdigest(),
        "model.pt": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def test_the_ids_are_those_of_monais_inference_bundles(data, run):
    bundle = workflow(data, run)
    bundle.initialize()
    assert bundle.check_properties() == []
    assert [record["case_id"] for record in bundle.dataset_data] == ["a", "b", "c"]


def test_both_run_ids_mean_the_same():
    config = read_config(CONFIG)
    assert config["inference"] == {"_target_": "scripts.launch", "engine": "evaluator"}
    assert config["run"] == ["@inference"]


@pytest.mark.parametrize(
    "override, message",
    [
        ({"output_format": "jpg"}, "output_format must be one of png, tiff, nifti, got 'jpg'"),
        ({"network_channels": [4, 8, 8, 8, 9]}, "do not fit the network UNet"),
        (
            {"network": "vgg"},
            "--network must be one of resnet34_unet, unet, two_component, timm_unet, frozen_probe, centred_probe, "
            "frozen_two_component, got 'vgg'",
        ),
        ({"window": 100}, "--window must be a multiple of 32 from 64 to 16384 pixels, got 100"),
        ({"scale": 0}, "--scale must be a number greater than 0, got 0"),
        ({"mpp": 0.5}, "trained at 0.5 um/px and those of the image a are not known: give --image_mpp"),
        ({"images": ["missing.png"]}, "the image missing.png is neither in"),
        ({"output_dir": "nowhere"}, "there is no trained network at"),
        ({"dataset_dir": "nowhere"}, "nowhere is not a folder"),
    ],
)
def test_what_is_wrong_ends_as_one_sentence_before_anything_is_written(data, run, capsys, override, message):
    before = files(run)
    with pytest.raises(SystemExit, match="2"):
        infer(data, run, **override)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert files(run) == before


def test_an_unreadable_image_stops_the_run_before_the_first_is_segmented(data, run, capsys):
    (data / "images" / "z.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="2"):
        infer(data, run)
    assert "z.png cannot be read as an image" in capsys.readouterr().err
    assert not (run / "prediction").exists()


def test_a_truncated_image_is_named(data, run, capsys):
    whole = (data / "images" / "c.png").read_bytes()
    (data / "images" / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit, match="2"):
        infer(data, run)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "c.png cannot be read as an image" in last


def test_predictions_are_not_written_where_they_cannot_or_should_not_be(data, run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit, match="2"):
        infer(data, run, prediction_dir=str(tmp_path / "file"))
    assert "predictions cannot be written to" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        infer(data, run, prediction_dir=str(data / "images"))
    assert "holds the images themselves" in capsys.readouterr().err
