"""Fixtures that every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the label app's own environment, whose tests need none
    pass
else:  # the same examples each time, so that no test fails by chance; nothing is kept between runs
    settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The developers' folder of golden files and real tissue; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CVM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"the developers' data folder is not at {folder} (set CVM_SHARED to where it is)")
    return folder


@pytest.fixture
def partly_scanned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes MRXS slides that OpenSlide "opens": (height, width, 3) pixels, of which a part was scanned.

    Called with the path, the pixels, the part (x, y, width, height) or None, and the um/px.
    """
    from PIL import Image

    made = {}

    class Slide:
        level_downsamples = (1.0,)

        def __init__(self, path):
            self.pixels, self.properties = made[Path(path)]
            self.level_dimensions = ((self.pixels.shape[1], self.pixels.shape[0]),)

        def read_region(self, location, level, size):
            x, y = location
            return Image.fromarray(self.pixels[y : y + size[1], x : x + size[0]]).convert("RGBA")

        def close(self):
            pass

    def make(path, pixels, part, *, mpp=0.5):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a slide")
        properties = {"openslide.vendor": "mirax", "openslide.mpp-x": str(mpp), "openslide.mpp-y": str(mpp)}
        if part is not None:
            names = ("x", "y", "width", "height")
            properties |= {f"openslide.bounds-{name}": str(value) for name, value in zip(names, part, strict=True)}
        made[path] = pixels, properties
        return path

    monkeypatch.setattr("openslide.OpenSlide", Slide)
    return make
