"""A training that is killed at random instants and taken up again ends as one that never was, bit for bit."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from cvm_monai.data.store import PseudoLabelStore

from .conftest import SMALL, TRAIN

PRELOAD = ["monai.bundle", "mlflow", "cvm_monai.engines", "cvm_monai.supervision.factory"]
"""What each training imports: forked from a server that has done so, it starts within a second."""


def train(folder: str, settings: dict) -> None:
    """A whole bundle run in a process of its own."""
    import monai

    with open(Path(folder).with_suffix(".log"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        monai.bundle.run("training", config_file=TRAIN, output_dir=folder, logging_file=False, **settings)


CHECKPOINTS = "checkpoints/checkpoints.json"


class Trainer:
    """Starts trainings, and ends some of them by SIGKILL after so many seconds."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def run(self, folder: Path, *, kill_after: float | None = None, begins: str | None = None) -> int:
        """The exit code; -9 for one that was killed, so many seconds after its start or its writing of a file."""
        before = stamp(folder, begins)
        process = self.context.Process(target=train, args=(str(folder), self.settings))
        process.start()
        while begins and process.is_alive() and stamp(folder, begins) == before:
            process.join(0.005)
        process.join(kill_after)
        if process.is_alive():
            process.kill()
        process.join()
        return process.exitcode


def stamp(folder: Path, name: str | None) -> int | None:
    """When a file of the folder was written; None where it is not there."""
    file = folder / (name or "")
    return file.stat().st_mtime_ns if name and file.is_file() else None


def state_of(folder: Path) -> dict:
    """The last checkpoint, without what the clock says."""
    manifest = json.loads((folder / CHECKPOINTS).read_text())
    assert manifest["finished"]
    state = torch.load(folder / "checkpoints" / manifest["checkpoints"][-1]["file"], weights_only=True)
    record = state["parts"].pop("record")
    return state | {"history": record["history"], "renewals": record["renewals"]}


def differences(one, other, name="state") -> list[str]:
    """The names of all leaves that are not the same to the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        return [found for key in one for found in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), name
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{name}.{i}")
        ]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [name]


def pseudo_labels(folder: Path) -> dict[str, np.ndarray]:
    store = PseudoLabelStore(folder / "pseudo_labels")
    return {case: store.get(case) for case in store._current()["files"]}


def assert_same(straight: Path, killed: Path) -> None:
    assert differences(state_of(straight), state_of(killed)) == []
    one, other = (torch.load(folder / "models" / "model.pt", weights_only=True) for folder in (straight, killed))
    assert differences(one, other) == []
    labels = [pseudo_labels(folder) for folder in (straight, killed)]
    assert labels[0].keys() == labels[1].keys()
    assert labels[0]
    assert all(np.array_equal(labels[0][case], labels[1][case]) for case in labels[0])
    assert not [path for path in killed.rglob(".*") if path.name != ".log"]


def assert_logged_once(folder: Path, *, epochs: int) -> None:
    record = json.loads((folder / "run.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns.db")
    run = client.get_run(record["mlflow_run_id"])
    assert (record["status"], run.info.status) == ("FINISHED", "FINISHED")
    assert run.data.params["supervision"] == record["knobs"]["supervision"]
    for name in ("train_total", "val_partial_ce", "epoch_seconds"):
        history = client.get_metric_history(record["mlflow_run_id"], name)
        assert [point.step for point in history] == list(range(1, epochs + 1)), name


def seconds_of(folder: Path) -> float:
    """What the epochs of a training took together."""
    record = json.loads((folder / "run.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=record["mlflow_tracking_uri"])
    return sum(point.value for point in client.get_metric_history(record["mlflow_run_id"], "epoch_seconds"))


INSTANTS = {"first checkpoint": CHECKPOINTS, "training": "run.json", "process": None}
"""What the delays count from, in turn, and the file that tells of it."""


def kill_until_done(trainer: Trainer, folder: Path, *, kills: int, setup: float, span: float) -> list[str]:
    """Kill so often, then let it end; returns a log.

    The instants are uniform: of three, one in [0, span) after the first checkpoint of its process, one in [0, span)
    after the training began, one in [0, setup) after the process began.
    """
    rng = np.random.default_rng(0)
    log = []
    for number in range(1, kills + 1):
        what, begins = list(INSTANTS.items())[number % 3]
        delay = float(rng.uniform(0, setup if begins is None else span))
        code = trainer.run(folder, kill_after=delay, begins=begins)
        found = folder / CHECKPOINTS
        epoch = json.loads(found.read_text())["checkpoints"][-1]["epoch"] if found.is_file() else 0
        log.append(f"kill {number}: {delay:.3f} s into the {what}, exit code {code}, epoch {epoch} saved")
        print(log[-1], flush=True)
        assert code == -9, log
    assert trainer.run(folder) == 0
    return log


@pytest.mark.parametrize(
    "supervision, kills, epochs",
    [
        pytest.param("cvm", 3, 12, marks=pytest.mark.ci),
        pytest.param("uncertainty_aware_mean_teacher", 20, 30, marks=pytest.mark.slow),
        pytest.param("cvm", 20, 30, marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_random_instants_ends_as_one_that_never_was(phantom, tmp_path, supervision, kills, epochs):
    settings = SMALL | {
        "dataset_dir": phantom,
        "supervision": supervision,
        "max_epochs": epochs,
        "renew_every": 10,
        "resume": "auto",
        "num_workers": 0,
    }
    trainer = Trainer(settings)
    assert Trainer(settings | {"max_epochs": 1}).run(tmp_path / "warm_up") == 0  # the server's imports, page cache
    start = time.monotonic()
    assert trainer.run(tmp_path / "straight") == 0
    whole, epochs_alone = time.monotonic() - start, seconds_of(tmp_path / "straight")
    killed = tmp_path / "killed"
    log = kill_until_done(
        trainer, killed, kills=kills, setup=(whole - epochs_alone) / 2, span=1.5 * epochs_alone / kills
    )
    assert len(log) == kills
    assert json.loads((killed / "run.json").read_text())["resumed"] > 0
    assert_same(tmp_path / "straight", killed)
    assert_logged_once(killed, epochs=epochs)
    before = (killed / "models" / "model.pt").stat()
    assert trainer.run(killed) == 0
    assert (killed / "models" / "model.pt").stat() == before
    assert "is finished: nothing is left to do" in (tmp_path / "killed.log").read_text()
