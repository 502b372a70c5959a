"""A real MONAI Label server on loopback, where MONAI Label is installed."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvm_monai
from cvm_monai.annotations import Annotations, Point, write_geojson

MISSING = "MONAI Label is not installed here: run `make test-label`, which makes its environment"
STARTS_WITHIN = 300
BUNDLE = Path(cvm_monai.__file__).parents[1] / "bundle"


@pytest.fixture(scope="session")
def monailabel():
    """Skips where MONAI Label is not installed."""
    if importlib.util.find_spec("monailabel") is None:
        pytest.skip(MISSING)


@pytest.fixture
def draw(tmp_path):
    """Draws an image of a red disc on blue and its clicks by name and seed: (image, GeoJSON)."""
    return partial(draw_case, tmp_path)


def draw_case(folder, name, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :96]
    disc = (y - 32) ** 2 + (x - 40) ** 2 < 20**2
    pixels = np.where(disc[..., None], (200, 60, 90), (90, 60, 200)) + rng.integers(-20, 20, (64, 96, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    inside = [Point(40.5, 32.5, 1), Point(50.5, 30.5, 1), Point(30.5, 36.5, 1)]
    outside = [Point(5.5, 5.5, 0), Point(90.5, 60.5, 0), Point(85.5, 10.5, 0)]
    write_geojson(folder / f"{name}.geojson", Annotations((*inside, *outside)))
    return folder / f"{name}.png", folder / f"{name}.geojson"


class Server:
    """A server process and its address."""

    def __init__(self, process, port, studies, log):
        self.process, self.port, self.studies, self.log = process, port, studies, log
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, method, path, **options):
        import requests

        return requests.request(method, self.address + path, timeout=600, **options)

    def raw(self, request_line, headers=""):
        """Status of a request whose path no client library has tidied."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            text = f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n"
            connection.sendall(text.encode())
            return int(connection.makefile("rb").readline().split()[1])

    def trained(self, params):
        """The ended task of a training."""
        answer = self.ask("POST", "/train/cvm", json=params)
        assert answer.status_code == 200, answer.text
        while True:
            task = self.ask("GET", "/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(1)


@pytest.fixture(scope="module")
def server(monailabel, tmp_path_factory):
    """The app as the documentation starts it, on a folder of three images."""
    folder = tmp_path_factory.mktemp("server")
    studies = folder / "studies"
    studies.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        image, _ = draw_case(folder, name, seed)
        image.rename(studies / image.name)
    (studies / "leak.png").symlink_to("/etc/hostname")
    app = subprocess.run(
        [sys.executable, "-m", "cvm_monai", "label-app", "--output", str(folder / "app")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "server.log").open("w")
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", app, "--studies", str(studies)]
    shutil.copytree(BUNDLE / "configs", folder / "bundle" / "configs")
    shutil.copytree(BUNDLE / "scripts", folder / "bundle" / "scripts")  # a bundle without a model of its own
    command += ["--port", str(port), "--conf", "max_label_mib", "1", "--conf", "bundle", str(folder / "bundle")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    found = Server(process, port, studies, folder / "server.log")
    try:
        wait(found)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def wait(server):
    import requests

    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until:
        if server.process.poll() is not None:
            break
        try:
            if server.ask("GET", "/info/").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{server.log.read_text()[-3000:]}")


@pytest.fixture
def state(server):
    """What the datastore holds and every file of it, to see that nothing has changed."""

    def read():
        files = {
            path.relative_to(server.studies): path.read_bytes()
            for path in sorted(server.studies.rglob("*"))
            if path.is_file() and path.name != ".lock" and "cvm_monai" not in path.parts
        }
        return json.dumps(server.ask("GET", "/datastore/?output=all").json(), sort_keys=True), files

    return read
