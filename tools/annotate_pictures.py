"""Make the pictures of `cvm-monai annotate` for the documents: its page on phantom images, clicked as a user would.

    python tools/annotate_pictures.py [OUT]

OUT (default docs/images) gets annotate.png, annotate_dark.png, annotate_gallery.png and the animation annotate.webp.
Needs the built page (make web), the extra `dev` and Chromium. The mouse pointer is drawn: headless Chromium has none.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from svg_outline import filled

ROOT = Path(__file__).resolve().parents[1]
CASES, SIZE, ENLARGED = 12, 160, 4
"""Phantom images, their side, and how much larger they are shown."""

SHOWN = "case_004"
WIDTH, HEIGHT = 1280, 800
ANIMATION = (960, 600)
CLICKS = 8
POINTER = ((0, 0), (0, 17), (4, 13), (7, 19), (10, 18), (7, 12), (12, 12))


def main(arguments: list[str]) -> int:
    """Draw the images, open the page on them, click, and save what is seen."""
    out = Path(arguments[0]) if arguments else ROOT / "docs" / "images"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _server(_images(Path(folder))) as address:
        masks = Path(folder) / "phantom" / "masks"
        mask = np.asarray(Image.open(masks / f"{SHOWN}.png").convert("L")) > 0
        mask = mask.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        with _window(address, "light") as page:
            film = Film(page)
            _click_and_correct(page, mask, film)
            _picture(page, out / "annotate.png")
            film.save(out / "annotate.webp")
            page.keyboard.press("g")
            page.wait_for_timeout(800)
            _picture(page, out / "annotate_gallery.png")
        with _window(address, "dark") as page:
            _open(page)
            page.keyboard.press("h")
            page.wait_for_timeout(800)
            _picture(page, out / "annotate_dark.png")
    return 0


def _images(folder: Path) -> Path:
    """Draw the phantom and enlarge its images; return the folder to annotate."""
    command = [sys.executable, "-m", "cvm_monai", "phantom", str(folder / "phantom")]
    options = ["--cases", str(CASES), "--size", str(SIZE)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, env=_environment())
    target = folder / "biopsies" / "images"
    target.mkdir(parents=True)
    for path in sorted((folder / "phantom" / "images").glob("*.png")):
        image = Image.open(path).convert("RGB")
        image.resize((SIZE * ENLARGED,) * 2, Image.Resampling.LANCZOS).save(target / path.name)
    return target.parent


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Serve a folder and give the address."""
    command = [sys.executable, "-m", "cvm_monai", "annotate", str(folder), "--no_browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    try:
        assert process.stdout is not None
        addresses = (re.search(r"http://\S+", line) for line in process.stdout)
        yield next(found[0] for found in addresses if found)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _window(address: str, scheme: str) -> Iterator[Any]:
    """Open the page in headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
        page.goto(address)
        page.wait_for_selector(".card")
        yield page
        browser.close()


def _open(page: Any) -> None:
    page.click(f".card:has-text('{SHOWN}')")
    page.wait_for_selector(".shapes > g[transform^=matrix]", state="attached")
    page.wait_for_selector(".answer:not(.computing)", timeout=60_000)
    page.wait_for_timeout(800)


def _click_and_correct(page: Any, mask: np.ndarray, film: "Film") -> None:
    """Click in the target, beside it, then wherever the outline is most wrong."""
    _open(page)
    film.hold(700)
    seen = np.zeros_like(mask)
    for number in range(CLICKS):
        wrong = (mask, ~mask)[number] if number < 2 else mask ^ seen
        x, y = _deepest(wrong)
        inside = bool(mask[int(y), int(x)])
        page.keyboard.press("1" if inside else "2")
        film.move(*_screen(page, x, y))
        page.mouse.click(*_screen(page, x, y))
        film.hold(120)
        page.wait_for_selector(".saved[data-state=saved]")
        page.wait_for_timeout(100)
        page.wait_for_selector(".answer:not(.computing)", timeout=60_000)
        page.wait_for_timeout(150)
        film.hold(560)
        outline = page.query_selector(".outline .edge")
        seen = filled(outline.get_attribute("d"), len(mask)) if outline else seen
    film.hold(600)
    page.keyboard.press("h")
    page.wait_for_timeout(200)
    film.hold(900)
    page.keyboard.press("h")
    page.wait_for_timeout(200)


def _deepest(mask: np.ndarray) -> tuple[float, float]:
    """Return the place (x, y) in a mask farthest from its border."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return float(column) + 0.5, float(row) + 0.5


def _screen(page: Any, x: float, y: float) -> tuple[float, float]:
    script = """([x, y]) => { const p = new DOMPoint(x, y)
        .matrixTransform(document.querySelector('.shapes > g').getScreenCTM()); return [p.x, p.y]; }"""
    place = page.evaluate(script, [x, y])
    return place[0], place[1]


def _picture(page: Any, path: Path) -> None:
    """Save the window with 256 colours, a third of the bytes of all colours."""
    page.mouse.move(1, 1)
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, kmeans=4).save(path, optimize=True)


class Film:
    """Frames of the window with a drawn pointer, each with its time."""

    def __init__(self, page: Any) -> None:
        self.page, self.pointer = page, (WIDTH * 0.6, HEIGHT * 0.7)
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def hold(self, milliseconds: int) -> None:
        """Show the window as it is for a while."""
        self._add(self._window(), milliseconds)

    def move(self, x: float, y: float) -> None:
        """Move the pointer to a place on the screen within a third of a second."""
        window, (from_x, from_y) = self._window(), self.pointer
        for part in (0.1, 0.35, 0.65, 0.9, 1.0):
            self.pointer = (from_x + part * (x - from_x), from_y + part * (y - from_y))
            self._add(window, 65)

    def save(self, path: Path) -> None:
        """Save as an animated WebP that begins anew."""
        first, *others = self.frames
        options = {"duration": self.times, "loop": 0, "quality": 75, "method": 6, "minimize_size": True}
        first.save(path, save_all=True, append_images=others, **options)

    def _window(self) -> Image.Image:
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            self.page.screenshot(path=file.name)
            return Image.open(file.name).convert("RGB")

    def _add(self, window: Image.Image, milliseconds: int) -> None:
        frame = window.copy()
        corners = [(self.pointer[0] + 1.4 * x, self.pointer[1] + 1.4 * y) for x, y in POINTER]
        ImageDraw.Draw(frame).polygon(corners, fill=(20, 20, 20), outline=(255, 255, 255), width=2)
        self.frames.append(frame.resize(ANIMATION, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
