"""What the configurations need beyond a class: errors as one sentence and code 2, and the checks before a training."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from cvm_monai.data.datalist import read_datalist
from cvm_monai.errors import CvmError
from cvm_monai.variational import linear_discriminant

ROOT = Path(__file__).parents[2]

KNOBS = {
    "supervision": "cvm",
    "network": "resnet34_unet",
    "encoder_weights": None,
    "extractor_path": None,
    "extractor_weights": None,
    "feature_store": None,
    "feature_dtype": "float32",
    "extraction": "whole",
    "patch_size": 1024,
    "halo": 192,
    "normalisation": "instance",
    "encoder_norm": None,
    "centre": "none",
    "evidence": "own",
    "discriminant": 0.0,
    "solver": "aos",
    "pairs": 5,
    "point_size": 3,
    "iterations": 50,
    "combination": "mean",
    "contrast": "one_sided",
    "renew_from": 0,
    "renew_every": 0,
    "renew_below": None,
    "restarts": 0,
    "selection": "lowest",
    "batch_size": 4,
    "max_epochs": 30,
    "num_workers": 0,
    "fold": 0,
    "crop_size": 128,
    "augmentation": "standard",
    "stain_jitter": 0.1,
    "pen_marks": 0.0,
    "stain_normalisation": "none",
    "lam": 2.0,
    "learning_rate": 0.001,
    "scale": 1,
    "mpp": None,
    "classes": 2,
    "eta": 0.6,
    "amp": False,
    "accumulation_steps": 1,
    "channels_last": False,
    "compile": False,
    "sync_batchnorm": False,
    "device": "cpu",
    "seed": 0,
    "tracking_uri": "none",
    "resume": "never",
}


@pytest.fixture
def script(monkeypatch):
    """A module of the bundle's scripts by name, found as a running configuration finds it."""
    monkeypatch.syspath_prepend(str(ROOT / "bundle"))
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "scripts"}

    def find(name: str) -> ModuleType:
        return importlib.import_module(f"scripts.{name}")

    yield find
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts" and name not in before]:
        del sys.modules[name]


def exits(script, capsys, block) -> str:
    """What a block that ends with code 2 printed last."""
    with pytest.raises(SystemExit, match=r"^2$"), script("errors").exit_on_error():
        block()
    return capsys.readouterr().err


def test_an_error_that_our_code_raised_is_one_sentence(script, capsys, tmp_path):
    text = exits(script, capsys, lambda: read_datalist(tmp_path))
    assert text.startswith(f"error: {tmp_path}/datalist.json does not exist: make it by `cvm-monai prepare")
    assert text.count("\n") == 1


def test_our_error_is_found_below_those_that_monai_wraps_it_in(script, capsys, tmp_path):
    def wrapped():
        try:
            try:
                read_datalist(tmp_path)
            except CvmError as error:
                raise RuntimeError("applying transform") from error
        except RuntimeError as error:
            raise RuntimeError("failed to instantiate component") from error

    assert "datalist.json does not exist" in exits(script, capsys, wrapped)


def test_our_sentence_is_printed_not_the_cause_it_names(script, capsys, tmp_path):
    (tmp_path / "file").touch()
    text = exits(script, capsys, lambda: script("before_training").check_writable(tmp_path / "file" / "out"))
    assert text.startswith(f"error: the output folder {tmp_path}/file/out cannot be written (Not a directory)")
    assert text.count("\n") == 1


def test_an_error_of_the_file_system_is_one_sentence(script, capsys, tmp_path):
    text = exits(script, capsys, lambda: (tmp_path / "missing").read_bytes())
    assert text == f"error: [Errno 2] No such file or directory: '{tmp_path}/missing'\n"


def foreign():
    raise ValueError("not ours")


def numpy_within_our_code():
    """NumPy refuses what our code hands it: a mistake whose place must be seen."""
    points = np.zeros((1, 2), int)
    linear_discriminant(np.zeros((2, 3, 3)), points, points, ridge=np.zeros(3))


@pytest.mark.parametrize(
    "block, kind",
    [
        (foreign, ValueError),
        (numpy_within_our_code, ValueError),
        (lambda: {}["key"], KeyError),
        (lambda: 1 / 0, ArithmeticError),
    ],
)
def test_any_other_error_keeps_its_traceback(script, capsys, block, kind):
    with pytest.raises(kind, match=r"not ours|truth value|key|division"), script("errors").exit_on_error():
        block()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_passes_through(script, kind):
    with pytest.raises(kind, match="stop"), script("errors").exit_on_error():
        raise kind("stop")


class Refused(torch.utils.data.Dataset):
    """A data set whose one item is refused by our code, in the loader's worker."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise CvmError("a.png cannot be read as an image: save it again")


def test_our_error_in_a_loaders_worker_is_its_sentence(script, capsys):
    loader = torch.utils.data.DataLoader(Refused(), num_workers=1)
    text = exits(script, capsys, lambda: list(loader))
    assert text == "error: a.png cannot be read as an image: save it again\n"


def test_nothing_happens_without_an_error(script, capsys):
    with script("errors").exit_on_error():
        done = True
    assert done
    assert capsys.readouterr().err == ""


STORED = {
    "network": "frozen_two_component",
    "feature_store": "features",
    "augmentation": "flips",
    "stain_jitter": 0,
    "pen_marks": 0,
    "crop_size": 0,
    "batch_size": 1,
}


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"augmentation": "standard"}, "--feature_store needs images that repeat exactly: give --augmentation flips"),
        ({"stain_jitter": 0.1}, r"--feature_store needs images that repeat exactly: .*--stain_jitter 0"),
        ({"pen_marks": 0.1}, r"--feature_store needs images that repeat exactly: .*--pen_marks 0"),
        ({"crop_size": 128}, r"--feature_store needs images that repeat exactly: .*--crop_size 0"),
        ({"supervision": "mixmatch"}, "--supervision mixmatch changes images at random, .*: drop --feature_store"),
        ({"supervision": "uncertainty_aware_mean_teacher"}, "changes images at random, .*: drop --feature_store"),
        ({"network": "unet"}, "keeps features of a frozen extractor, and this training has none: drop it"),
        ({"feature_store": 3}, "--feature_store must be null or a folder, got 3"),
        ({"feature_dtype": "int8"}, "--feature_dtype must be one of float32, float16, got 'int8'"),
    ],
)
def test_features_are_stored_of_images_that_come_again_alone(script, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        script("before_training").check_knobs(KNOBS | STORED | changes)


def test_good_knobs_pass(script):
    check = script("before_training").check_knobs
    check(KNOBS)
    large = {"network": "two_component", "extraction": "multi_stage", "halo": 288}
    check(KNOBS | large | {"encoder_norm": "frozen", "encoder_weights": "r34.pt"})
    check(KNOBS | STORED)
    check(KNOBS | {"supervision": "frozen_cvm", "feature_store": "features"})  # sees no augmented image
    check(KNOBS | {"mpp": 0.5, "crop_size": 0, "batch_size": 1, "eta": 0, "num_workers": 4, "fold": 3})


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("supervision", "CVM", "--supervision must be one of partial_ce, cvm, full"),
        ("network", "resnet", "--network must be one of resnet34_unet, unet, .*, got 'resnet'"),
        ("solver", "chan", "--solver must be one of aos"),
        ("augmentation", "most", "--augmentation must be one of standard, full, flips, none, got 'most'"),
        ("stain_normalisation", "other", "--stain_normalisation must be one of none, macenko, reinhard, got 'other'"),
        ("device", 0.5, r"--device must be cpu, cuda or cuda:N, got 0.5"),
        ("device", "../x", r"--device must be cpu, cuda or cuda:N, got '../x'"),
        ("image_mean", [], r"--image_mean must be three numbers, got \[\]"),
        ("image_std", "", r"--image_std must be three numbers greater than 0, got ''"),
        (
            "network_channels",
            "abcde",
            "--network_channels must be null or five whole numbers from 1 to 4096, got",
        ),
        ("weight_decay", [None], r"--weight_decay must be a number of at least 0, got \[None\]"),
        ("val_interval", 0, "--val_interval must be a whole number of at least 1, got 0"),
        ("point_size", "", "--point_size must be a whole number of at least 1, got ''"),
        (
            "extractor_path",
            True,
            "--extractor_path must be null or the path of a file, timm:NAME or imagenet, got True",
        ),
        ("mpp", 10**30, "--mpp must be null or a number greater than 0 and less than 1e.09, got 1000"),
        ("stain_jitter", 1, r"--stain_jitter must be a number in \[0, 1\), got 1"),
        ("stain_jitter", "0.1", r"--stain_jitter must be a number in \[0, 1\), got '0.1'"),
        ("combination", "median", "--combination must be one of mean, pooled, max, vote, got 'median'"),
        ("selection", "best", "--selection must be one of lowest, last, got 'best'"),
        ("contrast", "both", "--contrast must be one of one_sided, two_sided, got 'both'"),
        ("renew_every", -1, "--renew_every must be a whole number of at least 0, got -1"),
        ("pairs", 0, "--pairs must be a whole number of at least 1, got 0"),
        ("iterations", 2.5, "--iterations must be a whole number of at least 1, got 2.5"),
        ("batch_size", "4", "--batch_size must be a whole number of at least 1, got '4'"),
        ("max_epochs", True, "--max_epochs must be a whole number of at least 1, got True"),
        ("num_workers", -1, "--num_workers must be a whole number of at least 0, got -1"),
        ("fold", -1, "--fold must be a whole number of at least 0, got -1"),
        ("crop_size", None, "--crop_size must be a whole number of at least 0, got None"),
        ("lam", 0, "--lam must be a number greater than 0, got 0"),
        ("learning_rate", float("nan"), "--learning_rate must be a number greater than 0, got nan"),
        ("learning_rate", 1e18, "--learning_rate must be a number greater than 0 and less than 1e.09, got 1e.18"),
        ("scale", None, "--scale must be a number greater than 0, got None"),
        ("restarts", 1.0, "--restarts must be a whole number of at least 0, got 1.0"),
        ("restarts", 30, "--restarts 30 divides the training into 31 parts, and --max_epochs is 30"),
        ("renew_below", -1, "--renew_below must be null or a number greater than 0, got -1"),
        ("mpp", 0.0, "--mpp must be null or a number greater than 0, got 0.0"),
        ("eta", 1.1, r"--eta must be a number in \[0, 1\], got 1.1"),
        ("amp", "true", "--amp must be True or False, got 'true'"),
        ("extraction", "tiles", "--extraction must be one of whole, checkpointed, multi_stage, got 'tiles'"),
        ("extraction", "multi_stage", "--extraction multi_stage is for --network two_component alone"),
        ("encoder_norm", "none", "--encoder_norm must be null or one of batch, frozen, instance, got 'none'"),
        ("normalisation", "layer", "--normalisation must be one of instance, group, batch, got 'layer'"),
        ("centre", "mean", "--centre must be one of none, image, dataset, both, got 'mean'"),
        ("evidence", "all", "--evidence must be one of own, frozen, both, got 'all'"),
        ("discriminant", 1.5, r"--discriminant must be a number in \[0, 1\], got 1.5"),
        ("patch_size", 1000, "--patch_size must be a multiple of 16 of at least 64 pixels, got 1000"),
        ("halo", 8, "--halo must be a multiple of 16 of at least 0 pixels, got 8"),
        ("accumulation_steps", 0, "--accumulation_steps must be a whole number of at least 1, got 0"),
        ("channels_last", 1, "--channels_last must be True or False, got 1"),
        ("compile", "eager", "--compile must be True or False, got 'eager'"),
        ("sync_batchnorm", None, "--sync_batchnorm must be True or False, got None"),
        ("crop_size", 0, "--crop_size 0 trains on whole images, which need --batch_size 1"),
    ],
)
def test_a_knob_out_of_its_range_is_named(script, name, value, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        script("before_training").check_knobs(KNOBS | {name: value})


def test_statistics_of_an_encoder_are_kept_with_weights_from_a_file_alone(script):
    with pytest.raises(
        ValueError, match=r"^--encoder_norm frozen is for the statistics of weights that are read: give"
    ):
        script("before_training").check_encoder_norm(KNOBS | {"network": "two_component", "encoder_norm": "frozen"})


def test_evidence_of_frozen_features_needs_an_extractor(script, tmp_path):
    reads = script("before_training").reads_frozen_features
    assert not reads(KNOBS | {"supervision": "cvm"})
    assert reads(KNOBS | {"supervision": "cvm", "evidence": "both"})
    assert not reads(KNOBS | {"supervision": "partial_ce", "evidence": "both"})


def test_preflight_makes_the_output_folder_and_leaves_it_empty(script, tmp_path):
    knobs = KNOBS | {"output_dir": str(tmp_path / "a" / "b"), "dataset_dir": str(tmp_path)}
    script("before_training").preflight(knobs, check_data=False)
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"lam": -1}, "--lam must be a number greater than 0, got -1"),
        ({"tracking_uri": "mlruns"}, "tracking_uri 'mlruns' is a folder, which MLflow no longer accepts"),
        ({}, "datalist.json does not exist: make it by `cvm-monai prepare"),
    ],
)
def test_preflight_ends_with_code_2(script, capsys, tmp_path, changes, sentence):
    knobs = KNOBS | {"output_dir": str(tmp_path / "out"), "dataset_dir": str(tmp_path)} | changes
    with pytest.raises(SystemExit, match=r"^2$"):
        script("before_training").preflight(knobs)
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert sentence in text


def test_launch_outside_of_a_bundle_says_how_it_is_called(script):
    with pytest.raises(
        RuntimeError, match=r"launch is called from a bundle's configuration, by python -m monai\.bundle run"
    ):
        script("run_engine").launch("train#trainer")


def run_config(folder: Path, config: dict) -> None:
    (folder / "configs").mkdir()
    config = {"initialize": [{"_target_": "cvm_monai.engines.follow_parser"}], **config}
    (folder / "configs" / "a.json").write_text(json.dumps(config))
    workflow = ConfigWorkflow(config_file=str(folder / "configs" / "a.json"), workflow_type="train")
    workflow.initialize()
    workflow.run()


def test_launch_turns_a_mistake_deep_in_the_configuration_into_code_2(script, capsys, tmp_path):
    config = {
        "crop": {"_target_": "cvm_monai.data.transforms.RandCropToPointsd", "size": 5},
        "preprocessing": {"_target_": "Compose", "transforms": ["@crop"]},
        "engine": {"_target_": "Dataset", "data": [], "transform": "@preprocessing"},
        "training": {"_target_": "scripts.launch", "engine": "engine"},
        "run": ["@training"],
    }
    assert script("run_engine").launch.__module__ == "scripts.run_engine"
    with pytest.raises(SystemExit, match=r"^2$"):
        run_config(tmp_path, config)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: crop_size must be 0 or a multiple of 1 from 64 px, got 5"
    )


def test_launch_runs_the_engine_it_names(script, tmp_path):
    config = {
        "engine": {"_target_": "unittest.mock.Mock"},
        "other": "$1 / 0",
        "training": {"_target_": "scripts.launch", "engine": "engine"},
        "run": ["@training", "$@engine.run.assert_called_once_with()"],
    }
    assert script("run_engine").launch.__module__ == "scripts.run_engine"
    run_config(tmp_path, config)


@pytest.mark.parametrize("place", [{"network": "timm_unet"}, {"network": "frozen_probe"}, {"evidence": "frozen"}])
def test_imagenet_features_are_of_images_normalised_by_imagenet_alone(script, place):
    knobs = KNOBS | place | {"extractor_path": "imagenet", "image_mean": [0.5, 0.5, 0.5]}
    with pytest.raises(CvmError, match=r"^--extractor_path imagenet takes .* --image_mean is \[0.5, 0.5, 0.5\]: drop"):
        script("before_training").check_extractors(knobs)
    script("before_training").check_extractors(KNOBS | place | {"extractor_path": "imagenet"})


def test_the_revision_of_an_encoder_by_name_is_recorded(monkeypatch):
    from cvm_monai.engines import workflow

    monkeypatch.setattr(workflow, "absolute_extractor", lambda value: f"{value}:abc")
    parser = ConfigParser({"encoder_weights": "timm:resnet34@pretrained"})
    assert workflow._value(parser, "encoder_weights") == "timm:resnet34@pretrained:abc"
