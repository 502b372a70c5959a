"""The site is built with warnings as errors, runs the tutorial, and takes nothing from the net."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("sphinx", "furo", "myst_nb", "ipykernel"):
        pytest.importorskip(name, reason="the site is built by the packages of requirements-docs.lock")
    out = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-d", str(out / "doctrees"), "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    return out / "html"


def test_knobs_commands_and_names_have_their_entries(site):
    assert 'id="lam"' in (site / "reference/knobs/from_features_and_points_to_u.html").read_text("utf-8")
    assert "K/N" in (site / "reference/commands/predict.html").read_text("utf-8")
    assert 'id="cvm_monai.segment"' in (site / "reference/api/front_door.html").read_text("utf-8")


def test_the_tutorial_was_run(site):
    text = (site / "tutorial.html").read_text("utf-8")
    assert "regions.geojson" in text
    assert len(re.findall(r"_images/[^\"]+\.png", text)) >= 5


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 80
    for page in pages:
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//", page.read_text("utf-8")), page
        assert not re.findall(r"<link[^>]+href=\"(?:https?:)?//", page.read_text("utf-8")), page
    for style in site.rglob("*.css"):
        assert "@import" not in style.read_text("utf-8")
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text("utf-8")), style
