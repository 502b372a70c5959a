"""A bundle that carries its code: it segments where the package is not installed, and passes the model zoo's checks."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvm_monai import __version__
from cvm_monai.bundle_files import PACKAGE
from cvm_monai.cli.main import main
from cvm_monai.registry.bundle_zip import LEFT_OUT, moved_imports

BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cvm_monai":
            raise ModuleNotFoundError("cvm_monai is not installed here", name=name)

sys.meta_path.insert(0, Blocked())
"""
ROOT = Path(__file__).resolve().parents[2]
LARGEST = 25 * 2**20
"""Bytes of a file that the model zoo takes into its repository."""


def test_imports_move_into_scripts_and_nothing_else_does():
    moves = {
        "import cvm_monai": "from scripts import cvm_monai",
        "from cvm_monai.a import b": "from scripts.cvm_monai.a import b",
        "    from cvm_monai import c": "    from scripts.cvm_monai import c",
        "x = 'cvm_monai.d'": "x = 'cvm_monai.d'",
        "import cvm_monai_x": "import cvm_monai_x",
    }
    assert moved_imports("\n".join(moves)) == "\n".join(moves.values())


def test_the_name_must_end_in_zip(finished, tmp_path, capsys):
    assert main(["export-bundle", str(tmp_path / "out.tar"), "--model", str(finished())]) == 2
    assert "give a name that ends in .zip, not out.tar" in capsys.readouterr().err


def test_without_a_training_nothing_is_written(tmp_path, capsys):
    assert main(["export-bundle", str(tmp_path / "out.zip"), "--model", str(tmp_path)]) == 2
    assert "there is no training in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_default_training_of_a_named_bundle_is_found_in_that_bundle(finished, tmp_path, capsys):
    """A bundle's default output folder is its `eval`, and the weights then lie in its `models`."""
    output, root = finished(), tmp_path / "named"
    shutil.copytree(ROOT / "bundle", root, ignore=shutil.ignore_patterns("eval", "models", "__pycache__"))
    shutil.copytree(output, root / "eval")
    shutil.move(root / "eval" / "models", root / "models")
    command = ["export-bundle", str(tmp_path / "out.zip"), "--bundle", str(root)]
    assert main(command) == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read("out/models/model.pt") == (output / "models" / "model.pt").read_bytes()
    (root / "models" / "model.pt").unlink()
    assert main(command) == 2
    assert f"there is no trained network at {root / 'models' / 'model.pt'}: train again" in capsys.readouterr().err


@pytest.fixture(scope="module")
def unzipped(finished, tmp_path_factory):
    """The training and the unzipped bundle of it."""
    output, folder = finished(mpp=0.5), tmp_path_factory.mktemp("exported")
    assert main(["export-bundle", str(folder / "cells.zip"), "--model", str(output)]) == 0
    with zipfile.ZipFile(folder / "cells.zip") as archive:
        archive.extractall(folder)
    return output, folder / "cells"


def test_it_has_what_the_model_zoo_asks_for(unzipped):
    _, root = unzipped
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "models/model.pt", "docs/README.md"):
        assert (root / name).is_file(), name
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert metadata["version"] == __version__
    assert metadata["version"] in metadata["changelog"]
    assert metadata["name"]
    assert "cvm-monai" not in metadata["required_packages_version"]
    assert all(re.fullmatch(r"[\d.]+(post\d+)?", version) for version in metadata["required_packages_version"].values())
    channels = metadata["network_data_format"]["outputs"]["pred"]
    assert len(channels["channel_def"]) == channels["num_channels"] == 2
    assert [file for file in root.rglob("*") if file.is_file() and file.stat().st_size > LARGEST] == []


def test_it_holds_no_path_of_the_training_and_no_clutter(unzipped):
    output, root = unzipped
    texts = (".json", ".yaml", ".yml", ".py", ".md", ".conf")
    looked_at = {file.stem for file in root.rglob("*") if file.suffix in texts}
    assert {"inference", "metadata", "logging", "README", "solve", "unet"} <= looked_at
    for file in root.rglob("*"):
        assert "__pycache__" not in file.parts
        if file.suffix in texts:
            text = file.read_text()
            assert str(output) not in text, file
            assert "/secret" not in text, file
            assert not re.search(r"^\s*(from|import) cvm_monai", text, re.M), file
        if file.suffix == ".py":
            compile(file.read_text(), str(file), "exec")
    for file in (root / "configs").iterdir():
        assert not re.search(r"(?<!scripts\.)\bcvm_monai\.", file.read_text()), file


def test_every_file_of_the_package_that_is_no_source_travels(unzipped):
    """Such as the list of the front door's names, without which `import cvm_monai` fails."""
    _, root = unzipped
    files = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*") if file.is_file() and file.suffix != ".py"]
    unwanted = {*LEFT_OUT, "bundle", "__pycache__"}  # numba keeps what it compiled there
    others = {str(file) for file in files if not unwanted & set(file.parts)}
    assert {"__init__.pyi", "py.typed"} <= others
    assert [name for name in sorted(others) if not (root / "scripts" / "cvm_monai" / name).is_file()] == []


def python(*words: str, cwd: Path) -> str:
    """What Python says in a process that cannot import the installed package."""
    (cwd / "sitecustomize.py").write_text(BLOCKER)
    environment = {**os.environ, "PYTHONPATH": str(cwd), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, *words]
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout + run.stderr


def bundle_command(*words: str, cwd: Path) -> str:
    """A command of `monai.bundle` in such a process."""
    return python("-m", "monai.bundle", *words, cwd=cwd)


def test_its_code_can_be_used_by_itself(unzipped, tmp_path):
    """The front door finds its names in the unpacked zip alone."""
    _, root = unzipped
    code = (
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(root)!r})\n"
        "from scripts import cvm_monai\n"
        "features = np.zeros((2, 16, 16)); features[0, :, :8] = features[1, :, 8:] = 1\n"
        "found = cvm_monai.segment(features, np.array([[8, 4]]), np.array([[8, 12]]))\n"
        "print(cvm_monai.__file__, found.u.shape, int((found.u[:, :8] > 0.5).sum()), int((found.u[:, 8:] > 0.5).sum()))"
    )
    assert (
        python("-c", code, cwd=tmp_path).strip() == f"{root / 'scripts' / 'cvm_monai' / '__init__.py'} (16, 16) 128 0"
    )


@pytest.mark.ci
def test_it_segments_as_the_original_where_the_package_is_not_installed(unzipped, images, bundle_masks, tmp_path):
    output, root = unzipped
    expected = bundle_masks(output, image_mpp=0.8)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = ["run", "inference", "--config_file", str(root / "configs" / "inference.yaml"), "--image_mpp", "0.8"]
    places = ["--dataset_dir", str(images), "--prediction_dir", str(tmp_path / "found"), "--device", "cpu"]
    bundle_command(*words, *places, cwd=elsewhere)
    for name, mask in expected.items():
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / "found" / f"{name}_mask.png")), mask)


@pytest.mark.ci
def test_monai_s_own_checks_pass_from_inside_it(unzipped, shared_dir):
    _, root = unzipped
    schema = root / "schema.json"
    shutil.copyfile(shared_dir / "reference" / "meta_schema_20240725.json", schema)
    metadata = ["--meta_file", "configs/metadata.json"]
    bundle_command("verify_metadata", *metadata, "--filepath", str(schema), cwd=root)
    config = [*metadata, "--config_file", "configs/inference.yaml"]
    bundle_command("verify_net_in_out", "network_def", *config, "--device", "cpu", "--n", "2", cwd=root)
    bundle_command("ckpt_export", "network_def", *config, "--filepath", "models/model.ts", cwd=root)
    assert (root / "models" / "model.ts").is_file()
