"""A training that is killed at random instants and taken up again ends as one that never was, bit for bit."""

import json
import multiprocessing
import os
import signal
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

    os.setsid()
    with open(Path(folder).with_suffix(".log"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        monai.bundle.run("training", config_file=TRAIN, output_dir=folder, logging_file=False, **settings)


class Trainer:
    """Starts trainings, and ends some of them by SIGKILL after so many seconds."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def run(self, folder: Path, *, kill_after: float | None = None) -> int:
        """The exit code; -9 for a training that was killed."""
        process = self.context.Process(target=train, args=(str(folder), self.settings))
        process.start()
        process.join(kill_after)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL) if os.getpgid(process.pid) == process.pid else process.kill()
        process.join()
        return process.exitcode


def state_of(folder: Path) -> dict:
    """The last checkpoint, without what the clock says."""
    manifest = json.loads((folder / "checkpoints" / "checkpoints.json").read_text())
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
        return [found for i, pair in enumerate(zip(one, other)) for found in differences(*pair, f"{name}.{i}")]
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


def kill_until_done(trainer: Trainer, folder: Path, *, kills: int, seconds: float, seed: int) -> list[str]:
    """Kill so many times, at instants uniform in [0, seconds) after the start, then let it end; returns a log."""
    rng = np.random.default_rng(seed)
    log = []
    for number in range(1, kills + 1):
        delay, start = float(rng.uniform(0, seconds)), time.monotonic()
        code = trainer.run(folder, kill_after=delay)
        found = folder / "checkpoints" / "checkpoints.json"
        epoch = json.loads(found.read_text())["checkpoints"][-1]["epoch"] if found.is_file() else 0
        log.append(f"kill {number}: after {time.monotonic() - start:.2f} s, exit code {code}, epoch {epoch} saved")
    assert trainer.run(folder) == 0
    print("\n".join(log))
    return log


@pytest.mark.parametrize(
    "supervision, kills, epochs",
    [
        pytest.param("cvm", 3, 8, marks=pytest.mark.ci),
        pytest.param("uncertainty_aware_mean_teacher", 20, 30, marks=pytest.mark.slow),
        pytest.param("cvm", 20, 30, marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_random_instants_ends_as_one_that_never_was(
    phantom, tmp_path, supervision, kills, epochs
):
    settings = SMALL | {
        "dataset_dir": phantom,
        "supervision": supervision,
        "max_epochs": epochs,
        "renew_every": 2,
        "resume": "auto",
        "num_workers": 0,
    }
    trainer = Trainer(settings)
    start = time.monotonic()
    assert trainer.run(tmp_path / "straight") == 0
    seconds = time.monotonic() - start
    log = kill_until_done(trainer, tmp_path / "killed", kills=kills, seconds=min(seconds, 2 * seconds / 3), seed=0)
    assert sum("exit code -9" in line for line in log) == kills
    assert_same(tmp_path / "straight", tmp_path / "killed")
    assert_logged_once(tmp_path / "killed", epochs=epochs)
    before = (tmp_path / "killed" / "models" / "model.pt").stat()
    assert trainer.run(tmp_path / "killed") == 0
    assert (tmp_path / "killed" / "models" / "model.pt").stat() == before
    assert "is finished: nothing is left to do" in (tmp_path / "killed.log").read_text()
