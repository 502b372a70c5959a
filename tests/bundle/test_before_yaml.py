"""What was made while the configurations were JSON and listed their knobs goes on working."""

import json
import shutil
from pathlib import Path

import monai
import pytest

from cvm_monai.bundle_files import config_file, read_config
from cvm_monai.experiments.knobs import configuration, parse_knobs, read_train_config
from cvm_monai.experiments.state import decisive
from cvm_monai.files import first_difference, sha256
from cvm_monai.inference import load_network
from cvm_monai.knobs import names

from .conftest import BUNDLE, SMALL

BEFORE = Path(__file__).parent / "before_yaml"
"""Configurations and records as that version wrote them."""


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a user's own JSON configurations and the scripts of today."""
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    for name in ("train", "evaluate", "inference"):
        shutil.copy(BEFORE / f"{name}.json", folder / "configs")
    shutil.copy(BUNDLE / "configs" / "metadata.json", folder / "configs")
    (folder / "scripts").symlink_to(BUNDLE / "scripts")
    return folder / "configs"


def test_a_configuration_in_json_trains_evaluates_and_infers(bundle, phantom, tmp_path, capsys):
    train, output = str(bundle / "train.json"), str(tmp_path / "run")
    settings = SMALL | {"max_epochs": 1, "tracking_uri": "none"}
    monai.bundle.run("training", config_file=train, dataset_dir=phantom, output_dir=output, **settings)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "FINISHED"
    without = {"extractor_path", "extractor_weights"}  # MONAI drops a listed knob that has no value
    younger = {"renew_share", "solver_spacing", "cache", "pen_marks"}
    assert set(record["knobs"]) == set(names(recorded=True)) - without - younger
    both = [train, str(bundle / "evaluate.json")]
    monai.bundle.run("evaluating", config_file=both, output_dir=output, device="cpu")
    assert (tmp_path / "run" / "evaluation" / "per_case.csv").is_file()
    inference = str(bundle / "inference.json")
    monai.bundle.run("inference", config_file=inference, dataset_dir=phantom, output_dir=output, device="cpu")
    assert len(list((tmp_path / "run" / "prediction").glob("*_mask.png"))) == 8
    assert load_network(output).stride == 1
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=train, dataset_dir=phantom, output_dir=output, **settings | {"eta": 2})
    assert "error: --eta must be a number in [0, 1], got 2" in capsys.readouterr().err


def test_a_checkpoint_of_that_time_is_of_the_same_training(bundle, phantom, tmp_path, capsys):
    """The configuration of then is the same recipe today; knobs without a value were not listed then."""
    settings = json.loads((BEFORE / "settings.json").read_text())
    settings["data_sha256"] = sha256(Path(phantom) / "datalist.json")
    (tmp_path / "checkpoints").mkdir()
    manifest = {"settings": settings, "checkpoints": [], "finished": True}
    (tmp_path / "checkpoints" / "checkpoints.json").write_text(json.dumps(manifest))
    train = str(bundle / "train.json")
    asked = SMALL | {"dataset_dir": phantom, "output_dir": str(tmp_path), "tracking_uri": "none", "resume": "auto"}
    monai.bundle.run("training", config_file=train, **asked)
    assert f"the training in {tmp_path} is finished: nothing is left to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=train, **asked | {"lam": 0.3})
    assert "are of another training: lam was 0.2 and is 0.3" in capsys.readouterr().err


def test_a_finished_run_of_a_comparison_is_that_of_today(bundle):
    before = json.loads((BEFORE / "comparison.json").read_text())
    for folder in (BUNDLE, bundle.parent):
        config = read_train_config(folder)
        words = ["--network", "unet", "--checkpoint_seconds", "30"]
        later = ["--pen_marks", "0", "--renew_share", "None", "--solver_spacing", "1"]  # the rules of then
        words += later if "pen_marks" in config else []
        knobs = parse_knobs(words, config) | {"supervision": "cvm"}
        asked = configuration(config, knobs, fold=0, seed=0, data_sha256="0" * 64)
        assert first_difference(decisive(asked), decisive(before)) == ""
        assert first_difference(decisive(before), decisive(asked)) == ""


def test_yaml_goes_before_json_and_what_is_no_configuration_is_named(bundle, tmp_path):
    assert config_file(bundle, "train") == bundle / "train.json"
    (bundle / "train.yaml").write_text("fold: 3  # a comment\n")
    assert config_file(bundle, "train") == bundle / "train.yaml"
    assert read_config(bundle / "train.yaml") == {"fold": 3}
    for text, message in (
        ("a: [1", r"a\.yaml, line \d: not valid YAML"),
        ("a: !!python/object:os.system x", r"a\.yaml, line 1: not valid YAML \(could not determine a constructor"),
        ("- 1", r"a\.yaml is not a configuration: an object is expected"),
        ("3: 1", r"a\.yaml is not a configuration"),
        ("", r"a\.yaml is not a configuration"),
    ):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match=r"b\.yaml does not exist"):
        read_config(tmp_path / "b.yaml")
