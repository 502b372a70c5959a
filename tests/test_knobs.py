"""Every knob once: what it may hold, what configurations and documents say of it, and what follows from its role."""

import importlib.util
import inspect
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.engines.trained import check_recorded
from cvm_monai.inference.whole_slide import SlideOptions
from cvm_monai.interactive import ClickModel
from cvm_monai.knob_kinds import Choice, Computed, Knob, Number, Several, Switch, Text, Whole, by_name
from cvm_monai.knobs import INFERENCE, MODEL, SLIDES, TRAINING, check, names, plain_path_names
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.variational import ContrastEvidence, contrast_maps, segment, solve

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "bundle" / "configs"


def read(name: str) -> dict:
    return read_config(CONFIGS / f"{name}.yaml")


def test_the_list_of_knobs_loads_nothing_heavy():
    code = (
        "import sys, cvm_monai.knobs; "
        "print(sorted({'torch', 'monai', 'numpy', 'ignite', 'mlflow', 'yaml'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "kind, right, wrong, words",
    [
        (Choice(("a", "b")), ["a"], ["c", None, ["a"], 1], "one of a, b"),
        (Whole(1), [1, 7], [0, True, 1.0, "1", None], "a whole number of at least 1"),
        (Whole(2, 255), [2, 255], [1, 256], "a whole number from 2 to 255"),
        (Whole(64, multiple=16), [64, 80], [48, 65], "a multiple of 16 of at least 64 pixels"),
        (Number(above=0), [0.1, 3], [0, -1, True, "1", math.nan, math.inf, 10**30], "a number greater than 0"),
        (Number(0, 1), [0, 1, 0.5], [-0.1, 1.1], "a number in [0, 1]"),
        (Number(0, below=1), [0, 0.9], [1], "a number in [0, 1)"),
        (Number(0), [0, 5], [-1, None], "a number of at least 0"),
        (Several(3, Number(above=0)), [[1, 2, 3]], [[1, 2], [1, 2, 0], "abc", 3], "three numbers greater than 0"),
        (Several(5, Whole(1, 9)), [(1, 2, 3, 4, 9)], [[1, 2, 3, 4, 10]], "five whole numbers from 1 to 9"),
        (Switch(), [True, False], ["true", 1, None], "True or False"),
        (Text("a path"), ["x", Path("x")], [3, None, "a\0", "x" * 5000], "a path"),
    ],
)
def test_each_kind_says_what_fits_it(kind, right, wrong, words):
    assert all(map(kind.fits, right))
    assert not any(map(kind.fits, wrong))
    assert kind.words == words


def test_a_wrong_value_is_refused_by_name_and_null_where_it_may_be():
    with pytest.raises(ValueError, match=r"^--mpp must be null or a number greater than 0, got 0$"):
        check({"mpp": 0})
    check({"mpp": None, "no knob of ours": object()})
    with pytest.raises(ValueError, match=r"^--scale must be a number greater than 0, got None$"):
        check({"scale": None})


@pytest.mark.parametrize(
    "name, sent, value", [("iterations", "7", 7), ("iterations", 7.0, 7), ("lam", "0.5", 0.5), ("solver", "aos", "aos")]
)
def test_what_a_client_sends_is_read(name, sent, value):
    assert TRAINING[name].read(sent) == value
    assert type(TRAINING[name].read(sent)) is type(value)


@pytest.mark.parametrize("sent", [True, "x", 7.5, [1], 10**400, None])
def test_what_a_client_sends_wrongly_is_refused(sent):
    with pytest.raises(ValueError, match=r"^iterations must be a whole number of at least 1, got "):
        TRAINING["iterations"].read(sent)


def test_a_knob_that_comes_twice_is_a_mistake():
    with pytest.raises(ValueError, match="a knob is declared twice"):
        by_name(Knob("a", Switch(), False, ""), Knob("a", Switch(), True, ""))


@pytest.mark.parametrize("name, table", [("train", TRAINING), ("inference", INFERENCE), ("inference_wsi", SLIDES)])
def test_the_configurations_have_the_defaults(name, table):
    config = read(name)
    for knob in table.values():
        default = knob.default
        if isinstance(default, Computed):
            value = config[knob.name]
            assert value is None or isinstance(value, dict) or value[0] in "$@", knob.name
        else:
            assert config[knob.name] == (list(default) if isinstance(default, tuple) else default), knob.name
            assert knob.fits(config[knob.name]), knob.name
    assert all(knob.name in read("evaluate") for knob in table.values() if knob.name == "stain_shifts")


@pytest.mark.parametrize("function", [segment, solve, contrast_maps, ContrastEvidence, ClickModel, ContrastVariational])
def test_functions_on_arrays_and_clicks_have_the_bundle_s_defaults(function):
    found = {"method": "solver"}
    parameters = inspect.signature(function).parameters.values()
    defaults = {found.get(one.name, one.name): one.default for one in parameters if one.default is not one.empty}
    config = read("train")
    shared = {name: value for name, value in defaults.items() if name in MODEL}
    assert shared
    assert shared == {name: config[name] for name in shared}


def test_a_slide_is_predicted_as_the_bundle_does():
    config, options = read("inference_wsi"), SlideOptions()
    results = ("min_area_um2", "simplify_um", "class_probabilities")
    assert {name: getattr(options.results, name) for name in results} == {name: config[name] for name in results}
    names = ("window", "overlap", "batch_size", "num_workers", "tissue", "origin", "force_mpp", "overwrite")
    assert {name: getattr(options, name) for name in names} == {name: config[name] for name in names}


def test_a_training_may_go_on_elsewhere_but_not_with_another_science():
    """The former lists by hand: of a resumed training, and of a finished run of a comparison."""
    where = {"dataset_dir", "output_dir", "tracking_uri", "device", "num_workers", "cache", "feature_store", "resume"}
    assert set(names(decisive=False, recorded=True)) == where
    assert {"amp", "channels_last", "compile", "encoder_weights", "extractor_path"} <= set(names(decisive=True))


def test_places_are_left_out_of_what_is_given_away():
    assert set(names(role="place", recorded=True)) == {
        "dataset_dir",
        "output_dir",
        "encoder_weights",
        "extractor_path",
        "extractor_weights",
        "feature_store",
        "tracking_uri",
    }


def test_the_paths_that_monai_must_take_as_they_are():
    assert set(plain_path_names()) == {
        "dataset_dir",
        "output_dir",
        "prediction_dir",
        "feature_store",
        "encoder_weights",
        "extractor_path",
        "extractor_weights",
    }


def test_what_a_training_recorded_is_checked_and_what_it_could_not_know_passes():
    file = Path("run.json")
    assert check_recorded(file, "stain_normalisation", None) is None
    assert check_recorded(file, "unknown", {"x": 1}) == {"x": 1}
    with pytest.raises(ValueError, match=r"^run\.json: lam must be a number greater than 0, found 'x': train again"):
        check_recorded(file, "lam", "x")


def test_the_documents_hold_the_tables_of_knobs():
    spec = importlib.util.spec_from_file_location("knob_tables", ROOT / "tools" / "knob_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.DOCUMENT.read_text(encoding="utf-8")
    assert text.split(tool.BEGIN)[1].split(tool.END)[0].strip() == tool.generated().strip(), "run tools/knob_tables.py"
    assert all(f"| `{name}` |" in text for name in (*TRAINING, *INFERENCE, *SLIDES))


NEW = """
    Knob("warm_up", Whole(), 3, before=0, help="epochs in which the rate grows; more are gentler"),
    Knob("seed", """
PROGRAM = """
import sys
from pathlib import Path
from cvm_monai.knobs import DEFAULTS, check, names
from cvm_monai.engines.trained import check_recorded
from cvm_monai.engines.trained import TrainedKnobs
from cvm_monai.experiments.knobs import configuration, parse_knobs, read_train_config
from cvm_monai.label_app.training import read_knobs

def refused(call, *arguments):
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)

must = "warm_up must be a whole number of at least 0, "
assert refused(check, {"warm_up": -1}) == f"--{must}got -1"  # the check of every run
assert refused(check_recorded, Path("run.json"), "warm_up", "x").startswith(f"run.json: {must}found 'x'")
assert TrainedKnobs("nowhere")["warm_up"] == 0  # of trainings before
assert {"warm_up"} <= set(names(recorded=True)) & set(names(decisive=True))
assert read_knobs({"warm_up": "5"})["warm_up"] == 5  # MONAI Label
config = read_train_config(Path("bundle"))
assert parse_knobs(["--warm_up", "4"], config) == {"warm_up": "4"}
assert refused(parse_knobs, ["--warm_up", "x"], config) == f"--{must}got 'x'"  # a comparison
chosen = {"supervision": "cvm"}
assert configuration(config, chosen, fold=0, seed=0, data_sha256="x")["warm_up"] == DEFAULTS["warm_up"] == 3
"""


def test_a_new_knob_stands_in_three_files(tmp_path):
    """knobs.py, the configuration, and the code that uses it; the documents' table is written from the first."""
    for name in ("cvm_monai", "bundle", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "eval", "models"))
    edits = {
        "cvm_monai/knobs.py": ('\n    Knob("seed", ', NEW),
        "bundle/configs/train.yaml": ("\nseed: 0\n", "\nwarm_up: 3\nseed: 0\n"),
        "cvm_monai/engines/trainer.py": ("class PointTrainer", 'WARM_UP = DEFAULTS["warm_up"]\n\n\nclass PointTrainer'),
    }
    assert len(edits) == 3
    for file, (old, new) in edits.items():
        text = (tmp_path / file).read_text()
        assert text.count(old) == 1, file
        (tmp_path / file).write_text(text.replace(old, new))
    trainer = tmp_path / "cvm_monai" / "engines" / "trainer.py"
    first = re.search(r"^from cvm_monai", trainer.read_text(), re.MULTILINE)
    assert first is not None
    text = trainer.read_text()
    trainer.write_text(text[: first.start()] + "from cvm_monai.knobs import DEFAULTS\n" + text[first.start() :])
    for code in (PROGRAM, "import runpy; runpy.run_path('tools/knob_tables.py', run_name='__main__')"):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert found.returncode == 0, found.stderr
    row = "| `warm_up` | 3 | a whole number of at least 0 | epochs in which the rate grows; more are gentler |"
    assert row in (tmp_path / "bundle" / "docs" / "README.md").read_text()
