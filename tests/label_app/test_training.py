"""What the bundle's training command is told; the command itself does not run here."""

import json

import pytest

from cvm_monai.annotations import Annotations, Point, write_geojson
from cvm_monai.bundle_files import bundle_folder, config_file, read_config
from cvm_monai.label_app import training
from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.label_app.training import check_training, read_knobs, train


@pytest.fixture
def told(tmp_path, draw, monkeypatch):
    """Options of a training by settings, a request, and the knobs of the network in use."""

    def options(conf=None, request=None, *, current=None):
        image, label = draw("a", 0)
        write_geojson(label, Annotations((Point(40.5, 32.5, 1), Point(5.5, 5.5, 0))))
        in_use = None
        if current is not None:
            in_use = tmp_path / "current"
            in_use.mkdir()
            (in_use / "run.json").write_text(json.dumps({"knobs": current}))
        found = {}

        def run(command, *, log, say):
            words = command[command.index("--config_file") + 2 :]
            found.update(zip(words[::2], words[1::2], strict=True))
            model = log.parent / "models" / "model.pt"
            model.parent.mkdir()
            model.touch()
            return 0, ""

        monkeypatch.setattr(training, "_run", run)
        settings = read_settings({"image_mpp": "0.5", **(conf or {})}, studies=tmp_path)
        train([("a", image, label)], settings=settings, current=in_use, knobs=read_knobs(request or {}))
        return found

    return options


def test_a_training_computes_on_the_devices_of_the_app(told):
    found = told({"device": "cpu"})
    assert (found["--device"], found["--amp"]) == ("$torch.device('cpu')", "False")


def test_a_gpu_keeps_the_bundles_own_precision(told):
    found = told({"device": "cuda:1"})
    assert found["--device"] == "$torch.device('cuda:1')"
    assert "--amp" not in found


def test_a_training_that_goes_on_normalises_stains_as_before(told):
    assert told(current={"stain_normalisation": "macenko"})["--stain_normalisation"] == "macenko"


def test_a_training_that_goes_on_contrasts_as_before(told):
    assert told(current={"contrast": "two_sided"})["--contrast"] == "two_sided"


def test_an_mpp_is_kept_until_a_scale_is_chosen(told):
    assert told(current={"mpp": 0.5})["--mpp"] == "0.5"


def test_a_chosen_scale_replaces_the_mpp_in_use(told):
    found = told(request={"scale": 0.5}, current={"mpp": 0.5})
    assert (found["--scale"], found["--mpp"]) == ("0.5", "$None")


def test_scale_and_mpp_together_are_refused():
    with pytest.raises(ValueError, match="give one of them"):
        read_knobs({"scale": 0.5, "mpp": 1})


def test_a_training_that_fails_is_told_by_its_last_sentence(tmp_path, draw, monkeypatch):
    monkeypatch.setattr(training, "_run", lambda command, **_: (1, "ValueError: no memory is left"))
    with pytest.raises(ValueError, match="the training ended with code 1: ValueError: no memory is left"):
        train([("a", *draw("a", 0))], settings=read_settings({}, studies=tmp_path), current=None, knobs=read_knobs({}))


def test_a_training_without_a_bundle_is_refused_before_it_starts(tmp_path, draw):
    settings = read_settings({"bundle": str(tmp_path / "nowhere")}, studies=tmp_path)
    with pytest.raises(ValueError, match="there is no bundle to train with at"):
        check_training([("a", *draw("a", 0))], settings=settings, current=None, knobs={})


@pytest.mark.parametrize("value", ["$1", {}, [[1]], True, float("nan"), 10**400])
def test_a_value_of_a_training_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="max_epochs must be a whole number"):
        read_knobs({"max_epochs": value})


def test_the_first_training_of_all_takes_the_bundles_own_defaults(told):
    """Nothing was trained that it could inherit from: neither the network's kind nor what u is made of is named."""
    options = told()
    names = ("network", "normalisation", "encoder_norm", "contrast", "centre", "discriminant", "combination")
    assert not {f"--{name}" for name in names} & set(options)


def test_the_next_training_makes_its_network_and_u_as_the_last_one_did(told):
    last = {"normalisation": "group", "centre": "both", "discriminant": 0.25, "combination": "vote"}
    options = told(current=last)
    assert {name: options[f"--{name}"] for name in last} == {name: str(value) for name, value in last.items()}


@pytest.mark.parametrize("start, kept", [("current", True), ("scratch", False)])
def test_statistics_of_an_encoder_are_kept_with_its_weights_alone(told, start, kept):
    options = told(request={"start": start}, current={"normalisation": "batch", "encoder_norm": "frozen"})
    assert ("--encoder_norm" in options) is kept
    assert options["--preflight#going_on"] == str(kept)


def test_the_options_of_the_first_check_reach_it(told):
    config = read_config(config_file(bundle_folder() / "configs", "train"))
    found = {name.split("#")[1] for name in told() if name.startswith("--preflight#")}
    assert found == {"check_data", "going_on"}
    assert config["preflight"] == {"_target_": "scripts.preflight"}
    assert "@preflight" in config["initialize"]
