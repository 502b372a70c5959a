"""A training that is killed at random instants and taken up again ends as one that never was, bit for bit."""

import functools
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from cvm_monai.data.store import PseudoLabelStore

from .conftest import SMALL, TRAIN

PRELOAD = ["monai.bundle", "mlflow", "cvm_monai.engines", "cvm_monai.supervision.factory"]
"""What each training imports: forked from a server that has done so, it starts within a second."""
CHECKPOINTS = "checkpoints/checkpoints.json"
Mark = tuple[str, float]
"""What a training begins to do, and when by its clock: `epoch 3`, `training`, `validation`, ..., `other`."""


def train(folder: str, settings: dict, pipe) -> None:
    """A whole bundle run in a process of its own, which tells by the pipe what it begins to do."""
    import monai

    from cvm_monai.engines import PointTrainer, PseudoLabelRenewal
    from cvm_monai.engines.checkpoints import CheckpointFolder

    tell(pipe, "start")
    watch(pipe, PointTrainer, "_begin_epoch", lambda self, engine: f"epoch {engine.state.epoch}")
    watch(pipe, PointTrainer, "_iteration", lambda *_: "training")
    watch(pipe, monai.engines.SupervisedEvaluator, "_iteration", lambda *_: "validation")
    watch(pipe, PseudoLabelRenewal, "renew", lambda *_, **__: "renewal")
    watch(pipe, CheckpointFolder, "write", lambda *_, **__: "checkpoint")
    with open(Path(folder).with_suffix(".log"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        monai.bundle.run("training", config_file=TRAIN, output_dir=folder, logging_file=False, **settings)


def tell(pipe, name: str) -> None:
    pipe.send((name, time.monotonic()))


def watch(pipe, owner: type, method: str, name: Callable[..., str]) -> None:
    """Tell when a method begins and ends."""
    inner = getattr(owner, method)

    @functools.wraps(inner)
    def told(*args, **options):
        tell(pipe, name(*args, **options))
        result = inner(*args, **options)
        tell(pipe, "other")
        return result

    setattr(owner, method, told)


class Training:
    """A training in a process of its own, and the marks that it sends."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)

    def __init__(self, folder: Path, settings: dict) -> None:
        self.pipe, other = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=train, args=(str(folder), settings, other))
        self.process.start()
        other.close()

    def marks(self) -> Iterator[Mark]:
        """Each as it comes, until the process ends."""
        try:
            while True:
                yield self.pipe.recv()
        except (EOFError, OSError):  # the second where it was killed in the middle of a mark
            self.process.join()

    def kill(self, when: Callable[[str], bool], *, delay: float) -> str | None:
        """SIGKILL so many seconds after the first such mark; returns what it was doing, None where it ended first."""
        doing = next((name for name, _ in self.marks() if when(name)), None)
        if doing is None:
            return None
        self.process.join(delay)
        self.process.kill()
        doing = [doing, *(name for name, _ in self.marks())][-1]
        return doing if self.process.exitcode == -signal.SIGKILL else None


def run(folder: Path, settings: dict) -> list[Mark]:
    """A training to its end, and its marks."""
    training = Training(folder, settings)
    marks = list(training.marks())
    assert training.process.exitcode == 0, folder.with_suffix(".log").read_text()[-3000:]
    return marks


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
    return {case: store.get(case) for case in store._current().get("files", {})}


def assert_same(straight: Path, killed: Path, *, renews: bool) -> None:
    assert differences(state_of(straight), state_of(killed)) == []
    one, other = (torch.load(folder / "models" / "model.pt", weights_only=True) for folder in (straight, killed))
    assert differences(one, other) == []
    labels = [pseudo_labels(folder) for folder in (straight, killed)]
    assert labels[0].keys() == labels[1].keys()
    assert bool(labels[0]) == renews
    assert all(np.array_equal(labels[0][case], labels[1][case]) for case in labels[0])
    assert not [path for path in killed.rglob(".*") if path.name != ".lock"]


def assert_logged_once(folder: Path, *, epochs: int) -> None:
    record = json.loads((folder / "run.json").read_text())
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns.db")
    run = client.get_run(record["mlflow_run_id"])
    assert (record["status"], run.info.status) == ("FINISHED", "FINISHED")
    assert run.data.params["supervision"] == record["knobs"]["supervision"]
    for name in ("train_total", "val_partial_ce", "epoch_seconds"):
        history = client.get_metric_history(record["mlflow_run_id"], name)
        assert [point.step for point in history] == list(range(1, epochs + 1)), name


PHASES = ("checkpoint", "renewal", "training", "validation", "start")
"""What a kill is aimed at, in turn; `start` is all before the first epoch."""


def durations(marks: list[Mark]) -> dict[str, float]:
    """Median seconds of each phase."""
    found = defaultdict(list)
    for (name, begin), (_, end) in itertools.pairwise(marks):
        found[name].append(end - begin)
    return {name: statistics.median(found[name]) for name in PHASES if name in found}


def at(phase: str, *, epoch: int, last: int) -> Callable[[str], bool]:
    """Whether a mark begins a phase in an epoch or after it; or begins any epoch after `last`, before all is over."""
    now = 0

    def reached(name: str) -> bool:
        nonlocal now
        now = int(name.removeprefix("epoch ")) if name.startswith("epoch ") else now
        return now > last or (name == phase and (now >= epoch or phase == "start"))

    return reached


def saved_epoch(folder: Path) -> int:
    found = folder / CHECKPOINTS
    return json.loads(found.read_text())["checkpoints"][-1]["epoch"] if found.is_file() else 0


def kill_so_often(
    folder: Path, settings: dict, *, kills: int, seconds: dict[str, float], seed: int
) -> list[str] | None:
    """Kill and take up again; returns what each kill met, None where the training ended before all were done.

    Each instant is an event, a phase in an epoch, and a delay of up to as long as the phase takes. The last kills are
    aimed at what none has met yet, at the first half of it: a process that starts warm is past the whole of it sooner.
    """
    rng, met = np.random.default_rng(seed), []
    last = settings["max_epochs"] - 2
    for number in range(kills):
        left, saved = kills - number, saved_epoch(folder)
        missed = [phase for phase in seconds if phase not in met]
        late = len(missed) >= left
        phase = missed[0] if late else list(seconds)[number % len(seconds)]
        epoch = min(last, saved + 1 + int(rng.integers(max(1, round(2 * (last - saved) / left)))))
        delay = float(rng.uniform(0, seconds[phase] / (1 + late)))
        doing = Training(folder, settings).kill(at(phase, epoch=epoch, last=last), delay=delay)
        if doing is None:
            return None
        met.append(doing)
        print(
            f"kill {number + 1}: {delay:.3f} s after the {phase} of epoch {epoch} began, met {doing}, "
            f"{saved_epoch(folder)} epochs saved",
            flush=True,
        )
    return met


@pytest.mark.parametrize(
    "supervision, kills, epochs",
    [
        pytest.param("cvm", 3, 8, marks=pytest.mark.ci),
        pytest.param("uncertainty_aware_mean_teacher", 20, 30, marks=pytest.mark.slow),
        pytest.param("cvm", 20, 30, marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_random_instants_ends_as_one_that_never_was(phantom, tmp_path, supervision, kills, epochs):
    settings = SMALL | {
        "dataset_dir": phantom,
        "supervision": supervision,
        "max_epochs": epochs,
        "renew_every": 3,
        "resume": "auto",
        "checkpoint_seconds": 0,
        "num_workers": 0,
    }
    seconds = durations(run(tmp_path / "straight", settings))
    assert set(PHASES) - set(seconds) == (set() if supervision == "cvm" else {"renewal"})
    killed, met = tmp_path / "killed", None
    for seed in range(3):  # another seed where a training ended by itself, before its last kill
        if met is None:
            shutil.rmtree(killed, ignore_errors=True)
            met = kill_so_often(killed, settings, kills=kills, seconds=seconds, seed=seed)
    assert met is not None
    assert len(met) == kills
    assert kills < 20 or set(met) >= set(seconds)
    run(killed, settings)
    assert json.loads((killed / "run.json").read_text())["resumed"] > 0
    assert_same(tmp_path / "straight", killed, renews=supervision == "cvm")
    assert_logged_once(killed, epochs=epochs)
    before = (killed / "models" / "model.pt").stat()
    run(killed, settings)
    assert (killed / "models" / "model.pt").stat() == before
    assert "is finished: nothing is left to do" in (tmp_path / "killed.log").read_text()
