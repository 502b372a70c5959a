"""The wheel alone gives every command: it carries the bundle."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel without downloading anything")
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"  # a clean copy: a build writes beside its sources
    names = ["cvm_monai", "bundle", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", *names], capture_output=True, text=True, check=False)
    files = tracked.stdout.split() if tracked.returncode == 0 else []
    if not files:
        pytest.skip("the sources are no git checkout")
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(tree)]
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, code: str, cwd: Path) -> str:
    """Python's answer where only the unpacked wheel has the package."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return done.stdout


def cvm_monai(installed: Path, *words: str, cwd: Path) -> str:
    """Of the command line."""
    check = f"import cvm_monai; assert cvm_monai.__file__.startswith({str(installed)!r})"
    return run(installed, f"{check}; from cvm_monai.cli.main import main; raise SystemExit(main({list(words)!r}))", cwd)


def test_it_carries_the_bundle_and_nothing_of_the_tests(installed):
    for name in ("configs/train.yaml", "configs/logging.conf", "scripts/run_engine.py", "docs/README.md", "LICENSE"):
        assert (installed / "cvm_monai" / "bundle" / name).is_file(), name
    assert sorted(path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")) == ["cvm_monai"]


def test_its_commands_run_outside_the_repository(installed, tmp_path):
    assert "export-bundle" in cvm_monai(installed, "--help", cwd=tmp_path)
    cvm_monai(installed, "phantom", "data", "--cases", "4", "--size", "64", cwd=tmp_path)
    (tmp_path / "data" / "datalist.json").unlink()
    cvm_monai(installed, "prepare", "data", "--output", "prepared", "--folds", "2", cwd=tmp_path)
    assert (tmp_path / "prepared" / "datalist.json").is_file()
    assert "4 cases in" in cvm_monai(installed, "doctor", "prepared", cwd=tmp_path)


def test_its_configurations_are_found(installed, tmp_path):
    code = (
        "from pathlib import Path\n"
        "from cvm_monai.engines import bundle_root\n"
        "from cvm_monai.experiments.knobs import read_train_config\n"
        "print(read_train_config(Path(bundle_root()))['supervision'], bundle_root())"
    )
    assert run(installed, code, tmp_path).split() == ["cvm", str(installed / "cvm_monai" / "bundle")]
