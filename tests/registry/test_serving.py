"""A registered model over HTTP, from a store of its own server: the same mask as the bundle's, pixel for pixel."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvm_monai.cli.main import main
from cvm_monai.registry.segmenter import decode_png, encode_png

pytestmark = pytest.mark.ci
PATIENCE = 300
"""Seconds that a server may take to start on a busy machine."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def mlflow_process(words: list[str], *, answers: str, folder: Path, **environment: str) -> subprocess.Popen:
    """A running `mlflow ...`, once the address answers."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its bare name
    environment = {
        **os.environ,
        "PATH": beside,
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    } | environment
    command = [sys.executable, "-m", "mlflow", *words]
    log = folder / f"{words[0]}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(answers, timeout=5):
                return process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"{' '.join(command)} did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.5)


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on loopback: SQLite, artifacts through itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    process = mlflow_process(words, answers=f"http://127.0.0.1:{port}/health", folder=folder)
    yield f"http://127.0.0.1:{port}"
    stop(process)


@pytest.fixture(scope="module")
def output(finished, server: str) -> Path:
    """A training whose run is in a local database, registered at the server."""
    folder = finished(tests={"test_dice": 0.5})
    assert main(["register", str(folder), "--tracking_uri", server, "--promote_if_better", "dice"]) == 0
    return folder


@pytest.fixture(scope="module")
def scoring(output: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` of the champion."""
    port = free_port()
    words = ["models", "serve", "-m", "models:/cvm@champion", "--env-manager", "local", "-h", "127.0.0.1"]
    address = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("scoring")
    process = mlflow_process(
        [*words, "-p", str(port)], answers=f"{address}/ping", folder=folder, MLFLOW_TRACKING_URI=server
    )
    yield address
    stop(process)


def post(address: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("key", ["inputs", "dataframe_records", "instances", "dataframe_split"])
def test_a_mask_over_http_is_the_bundle_s_own(scoring, output, images, bundle_masks, key):
    expected = bundle_masks(output)
    records = [{"image": encode_png(np.array(Image.open(images / f"{name}.png")))} for name in expected]
    table = {"columns": ["image"], "data": [[record["image"]] for record in records]}
    status, reply = post(scoring, {key: table if key == "dataframe_split" else records})
    assert status == 200
    for name, found in zip(expected, reply["predictions"], strict=True):
        np.testing.assert_array_equal(decode_png(found["mask"]), expected[name])


def test_polygons_on_request_and_pixels_as_nested_lists(scoring):
    image = np.full((40, 50, 3), 200, np.uint8)
    content = {"inputs": [{"image": image.tolist(), "mpp": 0.5}], "params": {"polygons": True}}
    status, reply = post(scoring, content)
    assert status == 200
    (found,) = reply["predictions"]
    assert found["polygons"]["type"] == "FeatureCollection"
    assert decode_png(found["mask"]).shape == (40, 50)


def test_a_wrong_record_is_a_bad_request_with_its_sentence(scoring):
    good = encode_png(np.zeros((8, 8, 3), np.uint8))
    status, reply = post(scoring, {"inputs": [{"image": good}, {"image": "no image"}]})
    assert status == 400
    assert reply["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "record 2: its image is text but not base64: send" in reply["message"]


def test_the_server_s_version_tells_where_it_came_from(output, server):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)
    version = client.get_model_version_by_alias("cvm", "candidate")
    run = client.get_run(version.run_id)
    assert run.data.metrics == {"test_dice": 0.5}
    assert run.data.tags["mlflow_run_id"] == json.loads((output / "run.json").read_text())["mlflow_run_id"]
    assert run.info.status == "FINISHED"


def test_the_next_training_is_compared_with_the_server_s_champion(finished, output, server, capsys):
    worse = finished(tests={"test_dice": 0.4})
    assert main(["register", str(worse), "--tracking_uri", server, "--promote_if_better", "dice"]) == 0
    assert "version 1 stays champion: test_dice 0.4" in capsys.readouterr().out
