"""The command: what it refuses in one sentence, and that a kill loses nothing that was answered as saved."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from cvm_monai.annotations import read_annotations
from cvm_monai.cli import annotate
from cvm_monai.cli.main import main
from cvm_monai.files import lock_folder
from tests.annotate.conftest import add

STARTS_WITHIN = 120


def refusal(capsys, *words):
    """The sentence with which the command ends."""
    assert main(["annotate", *map(str, words)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cvm-monai: error")]
    assert len(lines) == 1
    return lines[0]


def test_a_missing_folder_is_named(capsys, tmp_path):
    assert "nowhere is not a folder" in refusal(capsys, tmp_path / "nowhere", "--api_only")


def test_a_missing_folder_is_refused_before_anything_slow_is_imported(tmp_path):
    code = (
        "import sys; from cvm_monai.cli.main import main; code = main(['annotate', sys.argv[1]]); "
        "sys.exit(3 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "nowhere")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "nowhere is not a folder" in done.stderr) == (2, True)


def test_a_folder_without_images_is_named(capsys, tmp_path):
    assert "holds no image, neither itself nor in images/" in refusal(capsys, tmp_path, "--api_only")
    (tmp_path / "images").mkdir()
    assert "holds no image" in refusal(capsys, tmp_path, "--api_only")


def test_a_folder_that_cannot_be_written_is_named(capsys, folder, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("cvm_monai.annotate.project.try_folder", refused)
    assert "cannot be written (Permission denied)" in refusal(capsys, folder, "--api_only")
    assert not (folder / ".cvm-annotate").exists()


def test_a_port_that_is_taken_is_named(capsys, folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"cannot be listened on at port {port}" in refusal(capsys, folder, "--api_only", "--port", port)
    assert "port 99999" in refusal(capsys, folder, "--api_only", "--port", 99999)


def test_without_a_port_the_next_free_one_is_taken(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(annotate, "FIRST_PORT", other.getsockname()[1])
        with annotate._listening("127.0.0.1", None) as found:
            assert other.getsockname()[1] < found.getsockname()[1] < other.getsockname()[1] + annotate.PORTS


def test_a_missing_extra_is_named(capsys, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "the package fastapi is missing: pip install 'cvm-monai[annotate]'" in refusal(capsys, folder)


def test_a_page_that_is_not_built_is_named(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cvm_monai.annotate.server.PAGE", tmp_path / "page")
    assert "run `make web`" in refusal(capsys, folder)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--mpp", "0"], "--mpp must be micrometres per pixel"),
        (["--classes", "Tumor=unknown"], "the class map gives 'Tumor' the meaning 'unknown'"),
        (["--device", "nothing"], "--device nothing cannot be used"),
        (["--model", "nowhere"], "there is no trained network at"),
    ],
)
def test_a_bad_option_is_refused(capsys, folder, words, sentence):
    assert sentence in refusal(capsys, folder, "--api_only", "--port", 0, *words)


def test_a_second_server_on_one_folder_is_refused(capsys, folder):
    with lock_folder(folder / ".cvm-annotate") as holder:
        assert holder is None
        found = refusal(capsys, folder, "--api_only", "--port", 0)
    assert f"is served already by process {os.getpid()}" in found


class Running:
    """A real server in a process of its own."""

    def __init__(self, folder):
        command = [sys.executable, "-m", "cvm_monai", "annotate", str(folder), "--port", "0", "--api_only"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + STARTS_WITHIN
        for line in self.process.stdout:
            if (found := re.search(r"(http://\S+)/\?token=(\S+)", line)) or time.monotonic() > until:
                break
        assert found, "the server printed no address"
        self.address, self.token = found.groups()

    def ask(self, method, path, **options):
        import requests

        headers = {"authorization": f"Bearer {self.token}"}
        return requests.request(method, self.address + path, headers=headers, timeout=60, **options)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.process.stdout.close()


@pytest.mark.ci
def test_a_kill_in_the_middle_of_edits_loses_nothing_that_was_answered_as_saved(folder):
    import requests

    saved: list[float] = []
    for life in range(3):
        server = Running(folder)
        image = server.ask("GET", "/api/project").json()["images"][0]["id"]
        found = server.ask("GET", f"/api/images/{image}/annotations").json()
        assert sorted(point["x"] for point in found["points"])[: len(saved)] == saved
        assert len(found["points"]) <= len(saved) + 1  # one may have been saved and not answered
        saved = sorted(point["x"] for point in found["points"])
        assert found["can_undo"] == bool(saved)
        killer = None
        for number in range(40):
            if number == 12 + 7 * life:  # the kill comes while the next edits are asked for
                killer = subprocess.Popen(["sh", "-c", f"sleep 0.0{life + 1}; kill -KILL {server.process.pid}"])
            place = len(saved) + 0.5
            body = {"revision": found["revision"], "edits": [add(place, 1.5)]}
            try:
                answer = server.ask("POST", f"/api/images/{image}/edits", json=body)
            except requests.ConnectionError:
                break
            assert answer.status_code == 200, answer.text
            found = answer.json()
            saved.append(place)
        assert killer is not None
        killer.wait(30)
        server.kill()
        file = folder / "points" / "a.geojson"
        on_disk = sorted(point.x for point in read_annotations(file).points)
        assert on_disk[: len(saved)] == saved
        assert json.loads(file.read_text())["type"] == "FeatureCollection"
    assert len(saved) > 36


@pytest.mark.ci
def test_a_server_that_was_interrupted_ends_and_gives_the_folder_free(folder):
    server = Running(folder)
    second = subprocess.run(
        [sys.executable, "-m", "cvm_monai", "annotate", str(folder), "--port", "0", "--api_only"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert "is served already by process" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    events = server.ask("GET", "/api/events", stream=True)
    assert next(events.iter_lines()) == b": connected"
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) in (0, 130)
    server.process.stdout.close()
    Running(folder).kill()
