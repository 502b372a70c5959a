"""MLflow goes away in the middle of a training: nothing stops, nothing is lost, nothing is sent twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import requests
from matplotlib.figure import Figure
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from cvm_monai.cli.main import main
from cvm_monai.runs import tracking
from cvm_monai.runs.outbox import FILE, Outbox
from cvm_monai.runs.tracking import TrackedRun


class Client:
    """An MLflow client whose server can be away, or refuse."""

    def __init__(self):
        self.error, self.got = None, []

    def _call(self, *call):
        if self.error is not None:
            raise self.error
        self.got.append(call)

    def log_metric(self, run_id, name, value, *, timestamp, step):
        self._call(run_id, name, value, timestamp, step)

    def set_tag(self, run_id, name, value):
        self._call(run_id, name, value)

    def log_artifact(self, run_id, path, *, artifact_path):
        self._call(run_id, Path(path).name, artifact_path)


AWAY = MlflowException("API request failed: connection refused")
REFUSED = MlflowException("no such name", error_code=INVALID_PARAMETER_VALUE)


def metric(step: int) -> dict:
    return {"kind": "metric", "run_id": "r", "name": "a", "value": 0.5, "step": step, "time": 1000 + step}


def run_of(client: Client, folder: Path, **options) -> TrackedRun:
    run = TrackedRun(tracking_uri="none", experiment="e", artifact_dir=folder, **options)
    run.run_id, run._client = "r", client
    return run


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def run(client, tmp_path, monkeypatch) -> TrackedRun:
    monkeypatch.setattr(tracking, "_now", lambda: 1000)
    return run_of(client, tmp_path, outbox=tmp_path / FILE)


def log(run: TrackedRun, step: int) -> None:
    run.metrics({"a": 0.5}, step=step)


def steps(run: TrackedRun) -> list[int]:
    assert run.outbox is not None
    return [entry["step"] for entry in run.outbox.entries()]


def test_what_cannot_be_sent_waits_and_is_sent_in_order_with_its_own_time(run, client, monkeypatch):
    log(run, 1)
    client.error = AWAY
    log(run, 2)
    monkeypatch.setattr(tracking, "_now", lambda: 2000)
    run.tags({"b": "x"})
    client.error = None
    assert run.settle() == 0
    log(run, 3)
    assert client.got == [("r", "a", 0.5, 1000, 1), ("r", "a", 0.5, 1000, 2), ("r", "b", "x"), ("r", "a", 0.5, 2000, 3)]
    assert not run.outbox.path.exists()


def test_a_server_that_is_away_is_asked_once_in_a_while_only_and_gets_all_when_it_is_back(run, client, monkeypatch):
    asked = []
    sent = client.log_metric
    monkeypatch.setattr(client, "log_metric", lambda *a, **o: asked.append(1) or sent(*a, **o))
    client.error = AWAY
    clock = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: clock[0])
    for step in range(5):
        log(run, step)
    assert len(asked) == 1
    clock[0] = tracking.RETRY_SECONDS + 1
    log(run, 5)
    assert len(asked) == 2
    assert steps(run) == [0, 1, 2, 3, 4, 5]
    client.error, clock[0] = None, 2 * clock[0]
    log(run, 6)
    assert [call[-1] for call in client.got] == [0, 1, 2, 3, 4, 5, 6]


def test_an_entry_is_on_disk_before_mlflow_is_asked(run, client, monkeypatch):
    found = []
    monkeypatch.setattr(client, "log_metric", lambda *_, **__: found.append(steps(run)))
    run.metrics({"a": 0.5}, step=3)
    assert found == [[3]]


def test_it_is_said_once_that_the_server_is_away(run, client, caplog):
    client.error = AWAY
    with caplog.at_level("WARNING"):
        for step in range(3):
            log(run, step)
            run.settle()
    assert caplog.messages == [f"MLflow does not answer ({AWAY}): the training continues, the record is kept on disk"]


def test_what_mlflow_refuses_is_left_out_and_does_not_hold_up_the_rest(run, client, caplog):
    client.error = REFUSED
    log(run, 1)
    assert caplog.messages == ["MLflow rejected an entry, which is dropped: INVALID_PARAMETER_VALUE: no such name"] or (
        caplog.messages == ["MLflow rejected an entry, which is dropped: no such name"]
    )
    client.error = None
    log(run, 2)
    assert [call[-1] for call in client.got] == [2]
    assert len(run.outbox) == 0


def test_without_an_outbox_a_failure_is_the_caller_s(client, tmp_path):
    client.error = AWAY
    with pytest.raises(MlflowException, match="connection refused"):
        log(run_of(client, tmp_path), 1)


def test_steps_that_the_run_has_are_not_sent_again(run, client):
    run._known = {("r", "a", 1), ("other", "a", 2)}
    client.error = AWAY
    log(run, 2)
    client.error = None
    run.settle()
    log(run, 1)
    assert [call[-1] for call in client.got] == [2]


@pytest.mark.parametrize("value", [1e30, -1e300])
def test_a_loss_that_explodes_is_logged_as_any_other(run, client, value):
    run.metrics({"a": value}, step=1)
    assert client.got == [("r", "a", value, 1000, 1)]


def test_a_damaged_outbox_is_refused_before_a_run_is_created(tmp_path):
    (tmp_path / FILE).write_text("nothing\n")
    run = TrackedRun(
        tracking_uri=f"sqlite:///{tmp_path}/m.db", experiment="e", artifact_dir=tmp_path, outbox=tmp_path / FILE
    )
    with pytest.raises(ValueError, match=r"mlflow_outbox\.jsonl: line 1 is not JSON .*: correct or remove it"):
        run.start("name")
    assert not (tmp_path / "m.db").exists()


def test_a_last_line_that_a_kill_cut_off_is_left_out_and_spoils_no_other(tmp_path):
    outbox = Outbox(tmp_path / "run" / FILE)
    outbox.add([metric(1)])
    with outbox.path.open("a") as file:
        file.write('{"kind": "met')
    assert [entry["step"] for entry in outbox.entries()] == [1]
    outbox.add([metric(2)])
    assert [entry["step"] for entry in Outbox(outbox.path).entries()] == [1, 2]


def test_a_line_within_that_is_no_json_is_named(tmp_path):
    tag = json.dumps({"kind": "tag", "run_id": "r", "name": "a", "value": "b"})
    (tmp_path / FILE).write_text(f"{tag}\nnothing\n{tag}\n")
    with pytest.raises(ValueError, match=r"mlflow_outbox\.jsonl: line 2 is not JSON .*: correct or remove it"):
        Outbox(tmp_path / FILE).entries()


def test_an_interruption_while_sending_keeps_what_was_not_sent(run, client):
    client.error = AWAY
    for step in range(3):
        log(run, step)
    client.error = None
    calls = iter([None, KeyboardInterrupt()])

    def stop(*_, **__):
        error = next(calls)
        if error:
            raise error

    client.log_metric = stop
    with pytest.raises(KeyboardInterrupt):
        run.settle()
    assert steps(run) == [1, 2]


def test_a_figure_waits_as_a_file_that_is_removed_when_it_was_sent(run, client, tmp_path):
    client.error = AWAY
    run.figure(Figure(), "pseudo_labels/epoch_0001.png")
    waiting = tmp_path / "mlflow_outbox" / "pseudo_labels" / "epoch_0001.png"
    assert waiting.stat().st_size > 500
    client.error = None
    assert run.settle() == 0
    assert client.got == [("r", "epoch_0001.png", "pseudo_labels")]
    assert not waiting.exists()
    assert list(tmp_path.iterdir()) == []


def test_sync_tracking_without_a_training_is_one_sentence(tmp_path, capsys):
    assert main(["sync-tracking", str(tmp_path)]) == 2
    assert "run.json is not the record of a training: name its output folder" in capsys.readouterr().err


# a real server


def start_server(folder: Path, port: int) -> subprocess.Popen:
    words = ["-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/m.db", "--port", str(port)]
    words += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its bare name
    environment = {**os.environ, "PATH": beside, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return process
        except OSError:
            time.sleep(0.2)
    stop_server(process)
    raise AssertionError((folder / "server.log").read_text())


def stop_server(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.ci
def test_a_server_that_dies_and_comes_back_has_everything_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    process = start_server(tmp_path, port)
    uri, out = f"http://127.0.0.1:{port}", tmp_path / "out"
    try:
        run = TrackedRun(tracking_uri=uri, experiment="e", artifact_dir=tmp_path, outbox=out / FILE)
        run.start("name")
        run.metrics({"a": 1.0}, step=1)
        stop_server(process)
        out.mkdir(exist_ok=True)
        (out / "run.json").write_text(json.dumps({"mlflow_run_id": run.run_id, "mlflow_tracking_uri": uri}))
        asked = []
        request = requests.Session.request
        monkeypatch.setattr(requests.Session, "request", lambda *a, **o: asked.append(a[1:]) or request(*a, **o))
        run.metrics({"a": 2.0}, step=2)
        run.artifact(out / "run.json")
        run.end("FINISHED")
        assert run.settle() == 3
        assert 1 <= len(asked) <= 4  # the training does not wait for a server that is away, entry after entry
        assert main(["sync-tracking", str(out)]) == 2
        sentence = f"MLflow at {uri} does not answer: 3 entries still wait in {out / FILE}: try again later"
        assert sentence in capsys.readouterr().err
        process = start_server(tmp_path, port)
        assert main(["sync-tracking", str(out)]) == 0
        assert main(["sync-tracking", str(out)]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sent")]  # MLflow adds links
        assert said == ["sent 3 entries to MLflow", "sent 0 entries to MLflow"]
        found = run._client.get_run(run.run_id)
        history = run._client.get_metric_history(run.run_id, "a")
        assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
        assert found.info.status == "FINISHED"
        assert [file.path for file in run._client.list_artifacts(run.run_id)] == ["run.json"]
    finally:
        stop_server(process)
