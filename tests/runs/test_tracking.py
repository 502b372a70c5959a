"""MLflow and `run.json`: addresses refused early, one run for each training, closed by what happened to it."""

import atexit
import hashlib
import http.server
import json
import socket
import sqlite3
import threading
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler
from PIL import Image

from cvm_monai.data.datalist import Case, read_datalist, write_datalist
from cvm_monai.engines import EpochMeans, LowestMetric, RunRecorder, default_tracking_uri, unique_run_name
from cvm_monai.engines.renewal import Preview, RenewalReport
from cvm_monai.engines.selection import SelectionEvents
from cvm_monai.runs.store import check_tracking_uri
from cvm_monai.runs.tracking import TrackedRun, writer_of

# addresses


@pytest.mark.parametrize("uri", ["mlruns", "/tmp/mlruns", "./a b", "file:///tmp/mlruns", "file:relative"])
def test_folders_are_refused_with_what_to_use(uri):
    with pytest.raises(
        ValueError, match=r"tracking_uri '.*' is a folder, which MLflow no longer accepts: use sqlite:////"
    ):
        check_tracking_uri(uri)


@pytest.mark.parametrize("uri", ["none", "sqlite:////tmp/a.db", "postgresql://user@host/db"])
def test_databases_and_none_are_taken(uri):
    assert check_tracking_uri(uri) is None


@pytest.fixture
def port():
    """A port of this machine where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://127.0.0.1:notaport", "https://"])
def test_a_server_that_does_not_answer_is_named(port, address):
    uri = address.format(port=port)
    with pytest.raises(
        ValueError, match=rf"no MLflow server answers at {uri} \(.+\): start it, or pass --tracking_uri none"
    ):
        check_tracking_uri(uri)


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_that_answers_is_taken_with_or_without_a_slash(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        server.paths = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for slash in ("", "/"):
            check_tracking_uri(f"http://127.0.0.1:{server.server_port}{slash}")
        with pytest.raises(ValueError, match=r"no MLflow server answers at .*/other \(Not Found\)"):
            check_tracking_uri(f"http://127.0.0.1:{server.server_port}/other")
        server.shutdown()
    assert server.paths == ["/health", "/health", "/other/health"]


def test_the_default_address_is_a_database_below_the_output_unless_the_environment_says_more(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri(output_dir="out") == f"sqlite:///{tmp_path}/out/mlruns.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert default_tracking_uri(output_dir="out") == "http://server:5000"


def test_run_names_are_unique_within_a_second():
    names = {unique_run_name(prefix="cvm") for _ in range(200)}
    assert len(names) == 200
    assert all(name.startswith("cvm-20") for name in names)


def test_without_tracking_nothing_is_written_and_mlflow_is_not_asked(tmp_path):
    run = TrackedRun(tracking_uri="none", experiment="e", artifact_dir=tmp_path / "mlruns")
    run.start("name")
    run.params({"a": 1})
    run.metrics({"a": 1.0})
    run.tags({"a": 1})
    run.artifact(tmp_path)
    run.end("FINISHED")
    assert not run.join("0123")
    assert (run.run_id, list(tmp_path.iterdir())) == (None, [])


# runs; making the database takes seconds, so that one serves all


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("tracking") / "new folder" / "mlruns.db"
    TrackedRun(tracking_uri=f"sqlite:///{file}", experiment="first", artifact_dir=file.parent / "files").start("first")
    return file


def tracked(database: Path, experiment: str = "e") -> TrackedRun:
    return TrackedRun(
        tracking_uri=f"sqlite:///{database}", experiment=experiment, artifact_dir=database.parent / "files"
    )


def logged(run: TrackedRun):
    return run._client.get_run(run.run_id)


def history(run: TrackedRun, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in run._client.get_metric_history(run.run_id, name)]


def test_a_run_names_its_data_set(database):
    run = tracked(database)
    run.start("one")
    run.dataset("colons", digest="0123456789abcdef" * 4, uri="/data/colons")
    (found,) = logged(run).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("colons", "0123456789ab")
    assert found.dataset.source == '{"uri": "/data/colons"}'
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]


def test_two_runs_of_one_experiment_are_two(database):
    one, other = tracked(database), tracked(database)
    one.start("one")
    other.start("other")
    assert one.run_id != other.run_id
    assert logged(one).info.experiment_id == logged(other).info.experiment_id
    assert [logged(run).info.run_name for run in (one, other)] == ["one", "other"]


def test_metrics_that_are_not_finite_are_left_out(database):
    run = tracked(database)
    run.start("metrics")
    run.metrics({"a": 1.0, "b": float("nan"), "c": float("inf"), "d": np.float32(0.5)}, step=7)
    assert logged(run).data.metrics == {"a": 1.0, "d": 0.5}
    assert history(run, "a") == [(7, 1.0)]


def test_the_first_end_counts(database):
    run = tracked(database)
    run.start("ended")
    assert logged(run).info.status == "RUNNING"
    run.end("FINISHED")
    run.end("KILLED")
    assert logged(run).info.status == "FINISHED"


def test_a_run_is_joined_by_its_id(database, tmp_path):
    first, second = tracked(database), tracked(database)
    first.start("joined")
    first.end("FINISHED")
    assert second.join(first.run_id)
    second.metrics({"test_dice": 0.5})
    (tmp_path / "a.txt").write_text("text")
    second.artifact(tmp_path / "a.txt", folder="evaluation")
    second.artifact(tmp_path / "missing.txt")
    assert logged(first).data.metrics["test_dice"] == 0.5
    assert logged(first).info.status == "FINISHED"
    assert [file.path for file in first._client.list_artifacts(first.run_id, "evaluation")] == ["evaluation/a.txt"]


@pytest.mark.parametrize("run_id", [None, "0" * 32])
def test_a_run_that_is_not_there_is_not_joined(database, run_id):
    run = tracked(database)
    assert not run.join(run_id)
    run.metrics({"a": 1.0})
    assert run.run_id is None


# the recorder


class Training:
    """A trainer of two epochs and its validator, with a recorder on `folder`."""

    def __init__(
        self, folder: Path, *, uri="none", fails_at=None, error=None, knobs=None, losses=(), recorder_options=None
    ):
        self.folder, self.losses = folder, losses
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self.datalist = folder / "data" / "datalist.json"
        image = folder / "data" / "a.png"
        image.touch()
        write_datalist(self.datalist, [Case("a", "p", image, None, None, None, {"image": "0"}, 0)])
        self.model = folder / "models" / "model.pt"
        self.model.parent.mkdir(exist_ok=True)
        torch.save({}, self.model)
        self.validator = Engine(lambda *_: None)
        LowestMetric(metric="score").attach(self.validator)
        self.trainer = Engine(self._step)
        self.fails_at, self.error = fails_at, error
        EpochMeans().attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate)
        self.recorder = RunRecorder(
            output_dir=str(folder / "out"),
            tracking_uri=uri,
            experiment_name="training",
            run_name=unique_run_name(prefix="test"),
            validator=self.validator,
            knobs={"lam": 2.0, "device": torch.device("cpu"), "sizes": [1, 2], "mpp": None} | (knobs or {}),
            datalist=str(self.datalist),
            model_path=str(self.model),
            **(recorder_options or {}),
        )
        self.recorder.attach(self.trainer)

    def _step(self, engine, batch):
        if engine.state.iteration == self.fails_at:
            raise self.error
        return [{"loss": 3.0 * batch, "partial_ce": 1.0 * batch, "weighted_kl": 2.0 * batch}]

    def _validate(self, engine):
        self.validator.state.metrics = {"score": 1.0 / engine.state.epoch}
        if self.losses:
            self.validator.state.metrics["val_partial_ce"] = self.losses[engine.state.epoch - 1]
        self.validator.state.epoch = engine.state.epoch

    def run(self):
        self.trainer.run([1, 2], max_epochs=2)

    def record(self) -> dict:
        return json.loads((self.folder / "out" / "run.json").read_text())


@pytest.mark.parametrize("parent", [None, "0123"])
def test_a_run_is_shown_under_its_parent_where_it_has_one(tmp_path, parent):
    training = Training(tmp_path, uri=f"sqlite:///{tmp_path}/m.db", recorder_options={"parent_run_id": parent})
    training.run()
    tags = training.recorder.run._client.get_run(training.recorder.run.run_id).data.tags
    assert tags.get("mlflow.parentRunId") == parent


def test_run_json_says_what_when_how_and_on_which_data(tmp_path):
    training = Training(tmp_path)
    training.run()
    record = training.record()
    assert record["status"] == "FINISHED"
    assert record["knobs"] == {"lam": 2.0, "device": "cpu", "sizes": [1, 2], "mpp": None}
    assert record["data_sha256"] == hashlib.sha256(training.datalist.read_bytes()).hexdigest()
    assert record["mlflow_run_id"] is None
    assert record["mlflow_tracking_uri"] == "none"
    assert record["training_seconds"] > record["renewal_seconds"] >= 0
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert read_datalist(tmp_path / "out").cases == read_datalist(tmp_path / "data").cases
    assert Image.open(tmp_path / "out" / "figures" / "training.png").size[0] > 100


@pytest.mark.parametrize(
    ("selection", "losses", "value"),
    [
        ("lowest", (0.25, 0.5), 0.25),
        ("last", (0.25, 0.5), 0.5),
        ("lowest", (nan, 0.5), 0.5),
        ("last", (0.5, nan), None),
        ("lowest", (), None),
    ],
)
def test_run_json_says_the_validation_loss_of_the_saved_weights(tmp_path, selection, losses, value):
    training = Training(tmp_path, knobs={"selection": selection}, losses=losses)
    training.run()
    assert training.record()["val_partial_ce"] == value


def test_means_of_the_terms_and_scores_are_logged_once_for_each_epoch(tmp_path, database):
    training = Training(tmp_path, uri=f"sqlite:///{database}")
    training.run()
    run = training.recorder.run
    assert history(run, "train_partial_ce") == [(1, 1.5), (2, 1.5)]
    assert history(run, "train_weighted_kl") == [(1, 3.0), (2, 3.0)]
    assert history(run, "train_total") == [(1, 4.5), (2, 4.5)]
    assert history(run, "score") == [(1, 1.0), (2, 0.5)]
    assert [step for step, _ in history(run, "epoch_seconds")] == [1, 2]
    found = logged(run)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"lam": "2.0", "device": "cpu", "sizes": "[1, 2]", "mpp": "None"}
    assert found.data.tags["data_sha256"] == training.record()["data_sha256"]
    assert training.record()["mlflow_run_id"] == run.run_id
    files = {file.path for file in run._client.list_artifacts(run.run_id)}
    assert {"model", "training.png", "run.json"} <= files
    artifacts = Path(found.info.artifact_uri.removeprefix("file://").replace("%20", " "))
    assert json.loads((artifacts / "run.json").read_text())["status"] == "FINISHED"
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from runs where run_uuid = ?", [run.run_id]).fetchone() == (1,)


@pytest.mark.parametrize(
    "error, status", [(ValueError("the loss is not finite"), "FAILED"), (KeyboardInterrupt("stop"), "KILLED")]
)
def test_a_training_that_breaks_off_is_marked_and_its_error_comes_out(tmp_path, database, error, status):
    training = Training(tmp_path, uri=f"sqlite:///{database}", fails_at=3, error=error)
    with pytest.raises(type(error), match=str(error)):
        training.run()
    assert training.record()["status"] == status
    assert logged(training.recorder.run).info.status == status
    assert history(training.recorder.run, "train_total") == [(1, 4.5)]


def test_a_training_still_running_when_the_interpreter_exits_was_killed(tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(call))
    monkeypatch.setattr(atexit, "unregister", lambda call: at_exit[:] and at_exit.pop())
    training = Training(tmp_path)
    statuses = []
    training.trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: statuses.append(training.record()["status"]))
    training.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda _: at_exit[0][0](*at_exit[0][1:]))
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: statuses.append(training.record()["status"])
    )
    training.run()
    assert statuses == ["RUNNING"] * 4 + ["KILLED"] * 2
    assert at_exit == []
    assert training.record()["status"] == "KILLED"  # nothing that follows makes it a finished one


def test_a_training_that_cannot_start_leaves_the_record_of_the_one_before(tmp_path):
    Training(tmp_path).run()
    before = Training(tmp_path).record()
    training = Training(tmp_path)
    training.datalist.unlink()
    with pytest.raises(FileNotFoundError, match=r"datalist\.json"):
        training.run()
    assert training.record() == before
    assert before["status"] == "FINISHED"


def test_a_training_that_never_wrote_a_record_fails_with_its_own_error(tmp_path, database):
    training = Training(tmp_path, uri=f"sqlite:///{database}")
    training.datalist.unlink()
    with pytest.raises(FileNotFoundError, match=r"datalist\.json"):
        training.run()
    assert not (tmp_path / "out" / "run.json").exists()
    assert training.recorder.run.run_id is None


def test_a_renewal_is_logged_and_drawn(tmp_path, database):
    training = Training(tmp_path, uri=f"sqlite:///{database}")
    rgb = np.full((8, 10, 3), 200, dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    item = {
        "case_id": "a",
        "mask": torch.full((1, 8, 10), 255, dtype=torch.uint8),
        "in_points": np.array([[2, 3]]),
        "out_points": np.array([[7, 9]]),
    }
    preview = Preview({"image": str(tmp_path / "a.png")}, item, np.eye(8, 10, dtype=np.float32), np.full((8, 10), 0.5))
    report = RenewalReport(
        epoch=2, labelled=5, skipped={"x": 1, "y": 2}, seconds=0.5, iterations=12.5, dice=0.75, previews=(preview,)
    )

    def renew(engine):
        training.validator.state.renewal = report
        training.validator.fire_event(SelectionEvents.RENEWED)

    training.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), renew)
    training.run()
    run = training.recorder.run
    expected = {
        "pseudo_label_images": 5,
        "pseudo_label_skipped": 3,
        "solver_iterations": 12.5,
        "renewal_seconds": 0.5,
        "pseudo_label_dice": 0.75,
    }
    assert {name: history(run, name) for name in expected} == {name: [(2, value)] for name, value in expected.items()}
    assert training.recorder.renewals == [2]
    assert Image.open(tmp_path / "out" / "figures" / "pseudo_labels.png").size[0] > 100
    assert [file.path for file in run._client.list_artifacts(run.run_id, "pseudo_labels")] == [
        "pseudo_labels/epoch_0002.png"
    ]


def test_monais_own_handler_writes_into_the_same_run_and_nothing_is_logged_twice(tmp_path, database):
    uri = f"sqlite:///{database}"
    training = Training(tmp_path, uri=uri)
    recorder = training.recorder
    MLFlowHandler(
        tracking_uri=uri,
        experiment_name="training",
        run_name=recorder.run_name,
        output_transform=lambda output: output[0]["loss"],
        close_on_complete=True,
    ).attach(training.trainer)
    training.run()
    run = recorder.run
    with sqlite3.connect(database) as connection:
        named = connection.execute("select run_uuid from runs where name = ?", [recorder.run_name]).fetchall()
    assert named == [(run.run_id,)]
    assert history(run, "train_total") == [(1, 4.5), (2, 4.5)]
    assert [step for step, _ in history(run, "epoch_seconds")] == [1, 2]
    assert logged(run).data.params["lam"] == "2.0"
    assert logged(run).info.status == "FINISHED"


def stale_and_next(database: Path, *, writer: str | None, other: str | None) -> tuple[TrackedRun, TrackedRun, int]:
    """A run left running by one writer, and what the start of another closes."""
    runs = []
    for mark in (writer, other):
        run = tracked(database)
        run.writer = mark
        run.start(f"of {mark}")
        runs.append(run)
    return *runs, runs[1].close_stale()


def test_a_run_that_a_kill_left_running_is_closed_by_the_next_start_in_its_folder(database):
    stale, following, closed = stale_and_next(database, writer="a", other="a")
    assert (closed, logged(stale).info.status, logged(following).info.status) == (1, "KILLED", "RUNNING")
    assert following.close_stale() == 0
    following.end("FINISHED")


@pytest.mark.parametrize("writer, other", [("b", "c"), (None, "d"), ("e", None)])
def test_runs_of_other_folders_go_on(database, writer, other):
    stale, following, closed = stale_and_next(database, writer=writer, other=other)
    assert (closed, logged(stale).info.status) == (0, "RUNNING")
    stale.end("FINISHED")
    following.end("FINISHED")


def test_a_training_killed_before_its_first_record_leaves_no_running_run(tmp_path):
    uri = f"sqlite:///{tmp_path / 'out' / 'mlruns.db'}"
    killed = Training(tmp_path, uri=uri)
    killed.recorder.run.start("killed")  # and no more
    following = Training(tmp_path, uri=uri)
    following.run()
    assert logged(killed.recorder.run).info.status == "KILLED"
    assert logged(following.recorder.run).info.status == "FINISHED"


def test_the_writer_is_the_folder_s_own_in_its_database_and_host_and_path_elsewhere(tmp_path):
    own = {writer_of(tmp_path / name, tracking_uri=f"sqlite:///{tmp_path}/{name}/mlruns.db") for name in "ab"}
    shared = {writer_of(tmp_path / name, tracking_uri="sqlite:////elsewhere/mlruns.db") for name in "ab"}
    assert (len(own), len(shared), own & shared) == (1, 2, set())
