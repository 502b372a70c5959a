"""What the tests in a browser share: drawn images, a server in a process of its own, clicks in level-0 pixels."""

import contextlib
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
filled = runpy.run_path(str(ROOT / "tools" / "svg_outline.py"))["filled"]
PAGE = ROOT / "cvm_monai" / "annotate" / "page" / "index.html"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def reason_to_skip() -> str:
    """Say what a test in the browser lacks here; empty if nothing."""
    if not PAGE.is_file():
        return "the page is not built: make web"
    if not CHROMIUM:
        return "there is no chromium: apt-get install chromium"
    try:
        import playwright  # noqa: F401
    except ModuleNotFoundError:
        return "Playwright is missing: make dev"
    return ""


def draw_case(path: Path, *, size: int = 384, seed: int = 0) -> np.ndarray:
    """Draw two tissues, a dark one with dense nuclei within a pale fibrous one; return the mask of the dark one."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.normal(size=(size, size)), size / 14)
    y, x = np.mgrid[:size, :size] / size - 0.5
    mask = (np.hypot(x - 0.04, y + 0.02) + 0.09 * field / field.std()) < 0.29
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask, iterations=4))
    picture = np.where(mask[..., None], (176, 128, 186), (232, 188, 212)).astype(float)
    fibres = ndimage.gaussian_filter(generator.normal(size=(size, size)), (1.5, 8))
    picture += (~mask * fibres / fibres.std())[..., None] * (9, 14, 10)
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    drawing = ImageDraw.Draw(image)
    for _ in range(size * size // 60):
        row, column = generator.integers(4, size - 4, 2)
        if mask[row, column] or generator.random() < 0.04:
            drawing.ellipse((column - 3, row - 3, column + 3, row + 3), fill=(92, 62, 132))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return mask


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """`cvm-monai annotate FOLDER` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> str:
        """Start it and return the address that it prints."""
        ours = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "cvm_monai", "annotate", str(self.folder), "--no_browser", "--device", "cpu"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ours},
            cwd=ROOT,
            start_new_session=True,  # a training is a child of it
        )
        said = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"http://\S+token=\S+", line):
                self.address = found[0]
                return self.address
        pytest.fail("the server did not start: " + "".join(said))

    def kill(self) -> None:
        """End it at once, as by a failing machine."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def end(self) -> None:
        """End it and all that it started."""
        if self.process is None:
            return
        group = self.process.pid
        self.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def places(mask: np.ndarray, number: int, *, apart: float = 50) -> list[tuple[float, float]]:
    """Choose places (x, y) deep inside a mask, apart from each other, as an annotator would."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    chosen = []
    for _ in range(number):
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        chosen.append((float(column) + 0.5, float(row) + 0.5))
        depth[np.hypot(rows - row, columns - column) < apart] = 0
    return chosen


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Compute twice the overlap over the sum of areas."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
