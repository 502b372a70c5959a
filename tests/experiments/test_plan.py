"""Methods, folds and knobs as they are given; the commands that they become."""

from pathlib import Path
from typing import get_args

import pytest

from cvm_monai.engines.workflow import bundle_root
from cvm_monai.experiments.execute import RunPaths, evaluating_words, shown, training_words
from cvm_monai.experiments.knobs import (
    configuration,
    parse_knobs,
    read_setting,
    read_train_config,
    value_of,
)
from cvm_monai.experiments.plan import parse_methods, parse_only, plan_runs
from cvm_monai.experiments.state import decisive
from cvm_monai.files import first_difference
from cvm_monai.knobs import SupervisionName, names

CONFIG = {
    "knobs": {"max_epochs": "@max_epochs", "scale": "@scale", "network": "@network", "supervision": "@supervision",
              "device": "@device"},
    "max_epochs": 40,
    "scale": 1.0,
    "network": "unet",
    "supervision": "cvm",
    "device": "$torch.device('cpu')",
    "train": {"dataloader": {}},
    "method_constants": {"cvm": {"weight": 1.0}, "full": {}},
}  # fmt: skip


def test_all_methods_are_those_of_the_factory_in_its_order():
    assert [arm.name for arm in parse_methods("all")] == [x for x in get_args(SupervisionName) if x != "frozen_cvm"]
    assert [arm.name for arm in parse_methods(" full, partial_ce,")] == ["partial_ce", "full"]


def test_methods_on_a_frozen_extractor_need_its_file_and_come_with_it():
    found = {arm.name: dict(arm.knobs) for arm in parse_methods("all", extractor="/r34.pth")}
    assert list(found)[-3:] == ["strong_partial_ce", "frozen_linear_probe", "frozen_cvm"]
    assert found["strong_partial_ce"] == {"supervision": "strong_partial_ce"}
    assert found["frozen_cvm"] == {"supervision": "frozen_cvm", "extractor_path": "/r34.pth"}
    assert found["frozen_linear_probe"] == {
        "supervision": "partial_ce",
        "network": "frozen_probe",
        "network_channels": "None",
        "encoder_weights": "None",
        "extractor_path": "/r34.pth",
    }
    (named,) = parse_methods("frozen_cvm", extractor="timm:vit", weights="/vit.pth")
    assert named.knobs == {
        "supervision": "frozen_cvm",
        "extractor_path": "timm:vit",
        "extractor_weights": "/vit.pth",
    }
    with pytest.raises(ValueError, match=r"the method frozen_cvm needs a frozen extractor: give .* --extractor_path"):
        parse_methods("cvm,frozen_cvm")


@pytest.mark.parametrize("text, got", [("cvm,magic", "'magic'"), ("", "none"), ("all,cvm", "'all'")])
def test_unknown_methods_are_refused(text, got):
    with pytest.raises(ValueError, match=f"--methods must be all, or some of partial_ce, .*, got {got}"):
        parse_methods(text)


def test_folds_to_test_are_all_or_those_named():
    assert parse_only(None, folds=3) == (0, 1, 2)
    assert parse_only("2, 0", folds=3) == (0, 2)
    for text in ("3", "-1", "", "a"):
        with pytest.raises(ValueError, match="--only must name folds from 0 to 2"):
            parse_only(text, folds=3)


def test_runs_go_fold_by_fold_each_in_a_folder_of_its_own():
    runs = plan_runs(parse_methods("cvm,full"), folds=(0, 1), seeds=2, output=Path("out"), knobs={"scale": "0.5"})
    assert [run.name for run in runs[:3]] == ["cvm, fold 0, seed 0", "full, fold 0, seed 0", "cvm, fold 1, seed 0"]
    assert len({run.folder for run in runs}) == 8
    assert runs[-1].folder == Path("out/runs/full/fold1_seed1")
    assert runs[0].knobs == {"scale": "0.5", "supervision": "cvm"}
    with pytest.raises(ValueError, match="--seeds must be at least 1, got 0"):
        plan_runs(parse_methods("cvm"), folds=(0,), seeds=0, output=Path("out"), knobs={})


def test_knobs_are_read_in_both_ways_of_writing():
    words = ["--max_epochs", "3", "--train#dataloader#num_workers=2", "--network", "unet"]
    assert parse_knobs(words, CONFIG) == {"max_epochs": "3", "train#dataloader#num_workers": "2", "network": "unet"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["3"], "'3' does not belong to any option: give DIR first"),
        (["--max_epochs"], "--max_epochs has no value"),
        (["--max_epochs", "--scale", "1"], "--max_epochs has no value"),
        (["--max_epoch", "3"], r"--max_epoch is neither .* did you mean --max_epochs\?"),
        (["--zzz", "3"], "--zzz is neither .* bundle/docs/README.md lists them"),
        (["--seed", "3"], "the comparison sets --seed itself: use --seeds"),
        (["--output_dir=x"], "the comparison sets --output_dir itself: use --output"),
        (["--network", "frozen_probe"], "--network must be one of .*, timm_unet, centred_probe, got 'frozen_probe'"),
        (
            ["--network", "vgg"],
            "--network must be one of resnet34_unet, .*, centred_probe, got 'vgg'",
        ),
    ],
)
def test_wrong_knobs_never_reach_a_training(words, message):
    with pytest.raises(ValueError, match=message):
        parse_knobs(words, CONFIG)


def write(path, text):
    path.write_text(text)
    return path


def test_a_setting_s_values_mean_what_its_file_says_and_typed_knobs_go_before_it(tmp_path):
    text = '{"max_epochs": 3, "network": "unet", "train#x": [1, null, true], "scale": 0.5, "device": "1"}'
    file = write(tmp_path / "setting.json", text)
    knobs = read_setting(file, CONFIG)
    values = {name: value_of(text) for name, text in knobs.items()}
    assert values == {"max_epochs": 3, "network": "unet", "train#x": [1, None, True], "scale": 0.5, "device": "1"}
    asked = parse_knobs(["--scale", "0.25"], CONFIG, setting=file, varied=("max_epochs", "device"))
    assert asked == {"network": "unet", "train#x": "[1, None, True]", "scale": "0.25"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "is not a configuration: an object is expected"),
        ("{", r"setting.json, line 1: not valid JSON"),
        ('{"method_constants": {"cvm": {}}}', r"setting.json: method_constants must be a plain value, got .*cvm"),
        ('{"scale": "@mpp"}', 'setting.json: scale must be a plain value, got "@mpp"'),
        ('{"max_epoch": 3}', r"setting.json: --max_epoch is neither .* did you mean --max_epochs\?"),
        ('{"seed": 3}', "setting.json: the comparison sets --seed itself: use --seeds"),
        (
            '{"network": "vgg"}',
            "--network must be one of resnet34_unet, .*, centred_probe, got 'vgg'",
        ),
    ],
)
def test_a_wrong_setting_never_reaches_a_training(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_knobs([], CONFIG, setting=write(tmp_path / "setting.json", text))


def test_a_setting_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"--setting .*none\.json does not exist; one is bundle/configs/paper"):
        parse_knobs([], CONFIG, setting=tmp_path / "none.json")


@pytest.mark.parametrize(
    "text, value", [("3", 3), ("0.5", 0.5), ("[4, 8]", [4, 8]), ("(4,8)", [4, 8]), ("unet", "unet"), ("None", None)]
)
def test_a_knob_s_text_means_what_fire_reads(text, value):
    assert value_of(text) == value


def test_a_configuration_has_defaults_under_what_is_asked_and_only_its_own_method_s_constants():
    found = configuration(
        CONFIG, {"supervision": "cvm", "scale": "0.5", "device": "cpu"}, fold=1, seed=2, data_sha256="x"
    )
    assert found == {
        "max_epochs": 40,
        "scale": 0.5,
        "network": "unet",
        "supervision": "cvm",
        "method_constants": {"weight": 1.0},
        "fold": 1,
        "seed": 2,
        "data_sha256": "x",
    }


def test_two_ways_to_write_a_number_are_one_configuration_and_where_it_runs_is_none_of_it():
    one, other = (
        configuration(CONFIG, knobs, fold=0, seed=0, data_sha256="x")
        for knobs in ({"scale": "0.50", "device": "cuda:0"}, {"scale": ".5", "num_workers": "4"})
    )
    assert first_difference(decisive(one), decisive(other)) == ""


def test_the_bundle_s_own_configuration_knows_every_knob_of_the_record():
    config = read_train_config(Path(bundle_root()))
    assert set(names(recorded=True)) <= set(config)
    with pytest.raises(ValueError, match=r"train\.yaml does not exist: name the folder of the MONAI bundle"):
        read_train_config(Path("/nowhere"))


def test_the_stain_knobs_of_the_bundle_tell_runs_apart():
    config = read_train_config(Path(bundle_root()))
    usual, without, normalised = (
        configuration(config, parse_knobs(words, config), fold=0, seed=0, data_sha256="x")
        for words in ((), ("--stain_jitter", "0"), ("--stain_normalisation=macenko",))
    )
    assert first_difference(usual, without) == "stain_jitter was 0.3 and is 0"
    before = {name: value for name, value in usual.items() if name != "pen_marks"}  # a knob that came later
    assert first_difference(decisive(before), decisive(usual)) == "pen_marks was 0.0 and is 0.2"
    assert first_difference(decisive(before), decisive(usual | {"pen_marks": 0})) == ""
    assert first_difference(usual, normalised) == 'stain_normalisation was "none" and is "macenko"'


def test_the_commands_are_the_bundle_s_own():
    (run,) = plan_runs(
        parse_methods("cvm"), folds=(1,), seeds=1, output=Path("out"), knobs={"scale": "0.5", "train#x": "[1, 2]"}
    )
    place = RunPaths(Path("bundle"), Path("data"), "none", "parent")
    assert shown(training_words(run, place)) == (
        "python -m monai.bundle run training --config_file bundle/configs/train.yaml --dataset_dir data "
        "--output_dir out/runs/cvm/fold1_seed0 --fold 1 --seed 0 --scale 0.5 '--train#x' '[1, 2]' --supervision cvm "
        "--tracking_uri none --parent_run_id parent"
    )
    words = evaluating_words(run, place)
    assert words[3:6] == [
        "evaluating",
        "--config_file",
        "['bundle/configs/train.yaml', 'bundle/configs/evaluate.yaml']",
    ]
    assert words[6:] == ["--output_dir", "out/runs/cvm/fold1_seed0", "--scale", "0.5", "--supervision", "cvm",
                         "--tracking_uri", "none"]  # fmt: skip
