"""`make dist` gives a source distribution and a wheel, and the wheel alone does a user's job in a fresh environment."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import venv
from pathlib import Path

import pytest

from cvm_monai import __version__

pytestmark = pytest.mark.ci
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "cvm_monai" / "annotate" / "page"
NARROW = ["--network", "unet", "--network_channels", "[4,4,8,8,8]", "--max_epochs", "1", "--crop_size", "64"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m build` makes of a clean copy of the tracked files, the wheel from the source distribution."""
    pytest.importorskip("build", reason="builds the distributions")
    pytest.importorskip("setuptools", minversion="77", reason="builds without downloading anything")
    folder = tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    files = tracked.stdout.splitlines() if tracked.returncode == 0 else []
    if not files:
        pytest.skip("the sources are no git checkout")
    for name in files:
        if not name.startswith(("tests/", "docs/", "benchmarks/")) and (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    if PAGE.is_dir():  # built by `make web`, in no checkout
        shutil.copytree(PAGE, folder / "tree" / PAGE.relative_to(ROOT))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "dist"


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment that has the wheel, and this environment's packages but not its `cvm_monai`."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(place, with_pip=False)
    (site,) = place.glob("lib/python*/site-packages")
    (wheel,) = dist.glob("*.whl")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(place),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(command, check=True, timeout=300)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))  # a plain path: no editable install comes with it
    return place / "bin" / "python"


def run(python: Path, *words: object, cwd: Path) -> str:
    """A program of the new environment, or a module by `-m`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    program = [python, *words] if words[0] == "-m" else [python.parent / str(words[0]), *words[1:]]
    command = list(map(str, program))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def test_both_distributions_are_there_and_the_sources_hold_the_bundle(dist):
    assert {path.suffix for path in dist.iterdir()} == {".gz", ".whl"}
    with tarfile.open(dist / f"cvm_monai-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"bundle/configs/train.yaml", "bundle/docs/README.md", "bundle/LICENSE", "LICENSE"} <= names


def test_the_wheel_alone_draws_trains_and_predicts(python, tmp_path):
    where = run(python, "-m", "cvm_monai", "--version", cwd=tmp_path)
    assert where.strip() == f"cvm-monai {__version__}"
    code = "import cvm_monai, cvm_monai.bundle_files as b; print(cvm_monai.__file__); print(b.bundle_folder())"
    (tmp_path / "where.py").write_text(code)
    found = run(python, "-m", "where", cwd=tmp_path).split()
    assert all(path.startswith(str(python.parents[1])) for path in found)
    run(python, "cvm-monai", "phantom", "data", "--cases", "8", "--size", "64", cwd=tmp_path)
    config = f"{found[1]}/configs/train.yaml"
    words = ["--config_file", config, "--dataset_dir", "data", "--output_dir", "run", *NARROW]
    assert "epoch 1/1" in run(python, "-m", "monai.bundle", "run", "training", *words, cwd=tmp_path)
    predict = ["--model", "run", "--output", "out", "--tissue", "none", "--mpp", "0.5"]
    run(python, "cvm-monai", "predict", "data/images/case_000.png", *predict, cwd=tmp_path)
    assert (tmp_path / "out" / "case_000" / "regions.geojson").is_file()


def test_the_wheel_brings_the_page_of_annotate(python, tmp_path):
    run(python, "cvm-monai", "phantom", "data", "--cases", "4", "--size", "64", cwd=tmp_path)
    words = [python.parent / "cvm-monai", "annotate", "data", "--port", "0"]
    words.append("--no_browser" if PAGE.is_dir() else "--api_only")
    server = subprocess.Popen(list(map(str, words)), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(line.split()[-1] for line in server.stdout if "http://" in line)
        base, _, token = address.partition("?token=")
        for path, expected in {"": "<!doctype html>", "api/project": '"case_001"'}.items():
            if PAGE.is_dir() or path:
                asked = urllib.request.Request(f"{base}{path}", headers={"Authorization": f"Bearer {token}"})
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    assert expected in answer.read().decode()
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130)
