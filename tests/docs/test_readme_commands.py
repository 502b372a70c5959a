"""Each command of the README does what its comment says, in the order of the README."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from cvm_monai.annotate.server import PAGE
from cvm_monai.cli.main import main
from cvm_monai.slides import write_pyramid

pytestmark = pytest.mark.ci
ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--network", "unet", "--network_channels", "[4,4,8,8,8]", "--max_epochs", "1", "--crop_size", "64"]


def commands() -> list[list[str]]:
    """The lines of the README's blocks of bash, as words without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the repository's root would be, with the images and slides that the README's names stand for."""
    place = tmp_path_factory.mktemp("readme")
    (place / "bundle").symlink_to(ROOT / "bundle")
    assert main(["phantom", str(place / "phantom"), "--cases", "8", "--size", "64"]) == 0
    for name in ("images", "points", "masks"):
        shutil.copytree(place / "phantom" / name, place / "MY_FOLDER" / name)
    shutil.copytree(place / "phantom" / "images", place / "NEW_IMAGES")
    drawn = np.random.default_rng(0).integers(120, 230, (512, 512, 3), dtype=np.uint8)
    for name in ("s1", "s2", "s3", "s4"):
        (place / "MY_SLIDES" / "images").mkdir(parents=True, exist_ok=True)
        write_pyramid(place / "MY_SLIDES" / "images" / f"{name}.tif", drawn.shape, [drawn], mpp=0.5)
    clicks = ((200, "target"), (300, "background"))
    rows = [f"s{case},{at},{at},{label}" for case in (1, 2, 3, 4) for at, label in clicks]
    (place / "MY_SLIDES" / "points.csv").write_text("\n".join(["case_id,x,y,label", *rows]))
    return place


def run(place: Path, words: list[str]) -> str:
    """Run a command there, by this environment's programs; the answer."""
    words = ["MY_SLIDES/images/s1.tif" if word == "SLIDE" else word for word in words]
    if words[0] == "cvm-monai":
        words = [sys.executable, "-m", "cvm_monai", *words[1:]]
    elif words[0] == "python":
        words = [sys.executable, *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def open_page(place: Path, words: list[str], path: str = "", token: Path | None = None) -> str:
    """Start a server, fetch its page or what lies at `path`, with the token that it keeps in a file; end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *words, "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    server = subprocess.Popen(command, cwd=place, **quiet)
    try:
        for _ in range(600):
            time.sleep(0.5)
            try:
                bearer = {} if token is None else {"Authorization": f"Bearer {token.read_text().strip()}"}
                asked = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", headers=bearer)
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                assert server.poll() is None, f"{words} ended"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # with its workers
        server.wait(30)
    raise AssertionError(f"{words} does not answer")


def test_the_two_commands_of_make_are_there_and_the_demo_is_what_is_tested_below():
    assert [words[1] for words in commands() if words[0] == "make"] == ["demo", "test", "web"]
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for words in ("run training --config_file bundle/configs/train.yaml", "run evaluating --config_file", "phantom"):
        assert words in shown


def test_every_command_of_the_readme_runs(place, monkeypatch):
    told = {}
    for words in commands():
        if words[0] in ("make", "source"):
            continue
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
            continue
        key = " ".join(words[:4] if words[0] == "python" else words[:2])
        if words[0] == "mlflow":
            told[key] = open_page(place, words)
        elif words[:2] == ["cvm-monai", "annotate"]:
            words = ["cvm_monai", *words[1:], "--no_browser" if PAGE.is_dir() else "--api_only"]
            told[key] = open_page(place, words, "api/project", place / words[2] / ".cvm-annotate" / "token")
        else:
            told[f"{key} {words[2]}" if key in told else key] = run(
                place, [*words, *QUICK] if "training" in words else words
            )
    assert "8 with both classes" in told["cvm-monai prepare"]
    assert "The whole training, 40 epochs" in told["cvm-monai doctor"]
    assert "epoch 1/1" in told["python -m monai.bundle run"]
    assert [key for key, text in told.items() if "UserWarning" in text] == []
    assert (place / "runs/mine/evaluation/summary.md").is_file()
    assert len(list((place / "runs/mine/prediction").glob("*_mask.png"))) == 8
    assert "<html" in told["mlflow ui"]
    assert len(json.loads(told["cvm-monai annotate"])["images"]) == 8
    assert len(list((place / "data/tiles/images").iterdir())) == 4
    assert (place / "results/s1/regions.geojson").is_file()
    assert "champion" in told["cvm-monai register"]
    assert Path(told["cvm-monai label-app"].strip()).is_dir()
