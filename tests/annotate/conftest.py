"""A folder of three small images, and a client that is admitted to its server."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `annotate` is not installed")
pytest.importorskip("httpx", reason="the development packages are not installed")

from starlette.testclient import TestClient

from cvm_monai.annotate.project import Project
from cvm_monai.annotate.server import create_app
from cvm_monai.annotate.workspace import Workspace

TOKEN = "a-token-of-the-tests"
PORT = 8123
NAMES = ("a", "b", "c")


def draw(path: Path, seed: int, *, size: tuple[int, int] = (64, 96)) -> None:
    """A red disc on blue, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = (y - 32) ** 2 + (x - 40) ** 2 < 20**2
    pixels = np.where(disc[..., None], (200, 60, 90), (90, 60, 200)) + rng.integers(-20, 20, (*size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


INSIDE, OUTSIDE = ((40.5, 32.5), (50.5, 30.5)), ((5.5, 5.5), (90.5, 60.5))


@pytest.fixture
def folder(tmp_path):
    """Images in `images/`."""
    for seed, name in enumerate(NAMES):
        draw(tmp_path / "studies" / "images" / f"{name}.png", seed)
    return tmp_path / "studies"


class Admitted(TestClient):
    """A client with the token, and short ways to ask."""

    def project(self):
        return self.get("/api/project").json()

    def image(self, name="a"):
        return next(image for image in self.project()["images"] if image["name"] == name)

    def id(self, name="a"):
        return self.image(name)["id"]

    def edit(self, edits, *, name="a", revision=None):
        revision = self.annotations(name)["revision"] if revision is None else revision
        return self.post(f"/api/images/{self.id(name)}/edits", json={"revision": revision, "edits": edits})

    def annotations(self, name="a"):
        return self.get(f"/api/images/{self.id(name)}/annotations").json()

    def click(self, name="a"):
        """Two clicks in the target and two outside it."""
        edits = [add(x, y, label) for label, places in ((1, INSIDE), (0, OUTSIDE)) for x, y in places]
        answer = self.edit(edits, name=name)
        assert answer.status_code == 200, answer.text
        return answer.json()


def add(x, y, label=1):
    return {"op": "add", "x": x, "y": y, "label": label}


@pytest.fixture
def served(folder):
    """Opens a folder as a new server does; a test may do so again and again."""
    clients = []

    def serve(place=folder, **options):
        page = options.pop("page", None)
        workspace = Workspace(Project(place, **options))
        app = create_app(workspace, token=TOKEN, port=PORT, page=page)
        client = Admitted(app, base_url=f"http://127.0.0.1:{PORT}", headers={"authorization": f"Bearer {TOKEN}"})
        client.workspace, client.app_ = workspace, app
        clients.append(client)
        return client

    yield serve
    for client in clients:
        client.workspace.stop()


@pytest.fixture
def client(served):
    return served()


@pytest.fixture
def cold(monkeypatch):
    """Clicks compare optical density: no weights are loaded."""

    def missing(name):
        raise ValueError("no weights in these tests")

    monkeypatch.setattr("cvm_monai.interactive.cold_start.imagenet_file", missing)
