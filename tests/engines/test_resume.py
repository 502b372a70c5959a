"""Checkpoints of a training: every way of learning goes on to the bit, what cannot be read is passed over."""

import json
import random
import resource
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, DistributedSampler
from monai.inferers import SimpleInferer
from monai.transforms import Compose, RandFlipd
from monai.utils import set_determinism

from cvm_monai.data.epochs import MicroBatchCollate, SeededCacheDataset
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines import Checkpoints, LowestMetric, PointTrainer, Restarts, WeightAverage, finished_training
from cvm_monai.engines.checkpoints import random_states, set_random_states
from cvm_monai.engines.network_options import training_network
from cvm_monai.networks import build_network
from cvm_monai.supervision.factory import METHODS, build_supervision

KEYS = ["image", "label", "mask", "pseudo_label"]


class Killed(RuntimeError):
    """Ends a training without another word."""


@pytest.fixture(autouse=True)
def seeds_as_they_were():
    yield
    set_determinism(None)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory) -> str:
    """A frozen extractor: a pooling in TorchScript."""
    path = tmp_path_factory.mktemp("extractor") / "pooled.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.AvgPool2d(2)).save(str(path))
    return str(path)


def cases(count: int = 4) -> list[dict]:
    """Images of noise, half of each target, with points, a mask and a soft pseudo-label."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        mask = np.zeros((1, 64, 64), dtype=np.uint8)
        mask[:, :, :32] = 1
        label = np.full_like(mask, 255)
        label[0, 10:13, 10:13], label[0, 50:53, 50:53] = 1, 0
        image = rng.normal(size=(3, 64, 64)).astype(np.float32) + mask
        arrays = {"image": image, "label": label, "mask": mask, "pseudo_label": 0.1 + 0.8 * mask.astype(np.float32)}
        found.append({name: torch.from_numpy(array.astype(array.dtype)) for name, array in arrays.items()})
    return found


class Training:
    """A bundle's training in small: two epochs of two steps, a store that gains a renewal after each epoch."""

    def __init__(
        self,
        folder: Path,
        *,
        method="partial_ce",
        resume="auto",
        workers=0,
        options=None,
        micro=2,
        knobs=None,
        restarts=0,
        **constants,
    ):
        self.knobs = {"lam": 1.0, "num_workers": 0, "max_epochs": 2, "supervision": method} | (knobs or {})
        set_determinism(0)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        datalist = folder.parent / "datalist.json"
        datalist.write_text("{}")
        transform = Compose([RandFlipd(keys=KEYS, prob=0.5, spatial_axis=0)])
        dataset = SeededCacheDataset(cases(), transform=transform, seed=0, num_workers=1, progress=False)
        options = options or {}
        network = build_network("unet", channels=[4, 8, 8, 8, 8])
        self.network = training_network(network, device="cpu", **options)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)
        self.average = WeightAverage(network=self.network, decay=0.9)
        self.supervision = build_supervision(method, constants={method: constants})
        self.lowest = LowestMetric(metric="score")
        self.restarts = Restarts(
            network=self.network,
            optimizer=self.optimizer,
            supervision=self.supervision,
            average=self.average,
            count=restarts,
        )
        self.store = PseudoLabelStore(folder / "pseudo_labels")
        self.checkpoints = Checkpoints(
            output_dir=str(folder),
            resume=resume,
            parts={
                "network": self.network,
                "optimizer": self.optimizer,
                "supervision": self.supervision,
                "average": self.average,
                "lowest": self.lowest,
            },
            store=self.store,
            knobs=self.knobs,
            datalist=str(datalist),
        )
        sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=0)
        self.trainer = PointTrainer(
            supervision=self.supervision,
            average=self.average,
            channels_last=options.get("channels_last", False),
            device=torch.device("cpu"),
            max_epochs=self.knobs["max_epochs"],
            train_data_loader=DataLoader(
                dataset,
                batch_size=2,
                collate_fn=MicroBatchCollate(size=micro),
                sampler=sampler,
                num_workers=workers,
                generator=torch.Generator().manual_seed(0),
            ),
            network=self.network,
            optimizer=self.optimizer,
            inferer=SimpleInferer(),
            train_handlers=[self.restarts, self.checkpoints],
        )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _end_epoch(self, engine):
        self.lowest.best, self.lowest.epoch = 1 / engine.state.epoch, engine.state.epoch
        self.store.publish({"a": np.full((2, 2), engine.state.epoch / 10)})

    def run(self) -> "Training":
        self.trainer.run()
        return self

    def killed_in(self, epoch: int) -> "Training":
        """Break off in the first step of an epoch."""

        def kill(engine):
            if engine.state.epoch == epoch:
                raise Killed

        self.trainer.add_event_handler(Events.ITERATION_STARTED, kill)
        with pytest.raises(Killed, match=r"^$"):
            self.trainer.run()
        return self

    def result(self) -> dict:
        """Everything that the next epoch would depend on."""
        parts = {name: part.state_dict() for name, part in self.checkpoints.parts.items()}
        state = self.trainer.state
        return parts | {"random": random_states(), "epoch": state.epoch, "iteration": state.iteration}


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


@pytest.mark.parametrize("method", METHODS)
def test_every_way_of_learning_goes_on_to_the_bit(tmp_path, extractor, method):
    constants = {"extractor_path": extractor} if method == "frozen_cvm" else {}
    straight = Training(tmp_path / "straight", method=method, **constants).run()
    Training(tmp_path / "killed", method=method, **constants).killed_in(2)
    torch.rand(7), np.random.random(7)  # noqa: NPY002  what another process would have drawn
    resumed = Training(tmp_path / "killed", method=method, **constants)
    assert resumed.trainer.state.epoch == 0
    resumed.run()
    assert differences(straight.result(), resumed.result()) == []
    assert (resumed.trainer.state.epoch, resumed.trainer.state.iteration) == (2, 4)
    assert resumed.lowest.best == 0.5
    assert resumed.store.version == straight.store.version == 2


def test_a_training_that_is_not_resumed_would_differ(tmp_path):
    """What the comparison above is worth: the second epoch of a training from epoch 0 is another one."""
    straight = Training(tmp_path / "straight").run()
    other = Training(tmp_path / "other")
    other.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", 1))
    found = differences(straight.result(), other.run().result())
    assert any(name.startswith("state.network") for name in found)
    assert "state.iteration" in found


def test_workers_change_nothing(tmp_path):
    alone, helped = (Training(tmp_path / str(workers), workers=workers).run() for workers in (0, 2))
    assert differences(alone.result(), helped.result()) == []


def test_the_newest_two_are_kept_and_the_training_is_marked_finished(tmp_path):
    training = Training(tmp_path / "run")
    training.killed_in(2)
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints.json", "epoch_00001.pt"]
    assert not json.loads((folder / "checkpoints.json").read_text())["finished"]
    Training(tmp_path / "run").run()
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints.json", "epoch_00001.pt", "epoch_00002.pt"]
    assert json.loads((folder / "checkpoints.json").read_text())["finished"]


@pytest.mark.parametrize("change", ["truncate", "remove", "flip"])
def test_a_newest_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(tmp_path, caplog, change):
    straight = Training(tmp_path / "straight").run()
    Training(tmp_path / "run").run()
    newest = tmp_path / "run" / "checkpoints" / "epoch_00002.pt"
    data = newest.read_bytes()
    newest.unlink()
    if change != "remove":
        middle = len(data) // 2
        newest.write_bytes(
            data[:middle] if change == "truncate" else data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        )
    with caplog.at_level("INFO"):
        resumed = Training(tmp_path / "run").run()
    assert any("epoch_00002.pt" in text and text.endswith("using the one before it") for text in caplog.messages)
    assert "goes on after epoch 1 of 2" in caplog.messages
    assert differences(straight.result(), resumed.result()) == []


def test_a_checkpoint_whose_pseudo_labels_are_gone_gives_way_too(tmp_path, caplog):
    straight = Training(tmp_path / "straight").run()
    Training(tmp_path / "run").run()
    (tmp_path / "run" / "pseudo_labels" / "0002" / "0-000000.npy").unlink()
    resumed = Training(tmp_path / "run").run()
    assert any("a pseudo-label of renewal 2, is missing: using the one before" in text for text in caplog.messages)
    assert differences(straight.result(), resumed.result()) == []
    assert resumed.store.get("a").tolist() == straight.store.get("a").tolist()


def test_a_state_is_saved_where_the_seconds_have_passed_and_at_the_end(tmp_path, monkeypatch):
    training = Training(tmp_path / "run", knobs={"max_epochs": 6})
    training.checkpoints.seconds = 60
    clock = SimpleNamespace(monotonic=lambda: 25 * training.trainer.state.epoch)
    monkeypatch.setattr("cvm_monai.engines.resume.time", clock)
    saved = []
    training.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda _: saved.append(training.checkpoints._saved // 25)
    )
    training.run()
    assert saved[-1] == 3  # 75 s after the start; its own handler comes after this one
    states = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert states == ["epoch_00003.pt", "epoch_00006.pt"]


def test_seconds_below_zero_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--checkpoint_seconds must be a number of at least 0, got -1"):
        Checkpoints(output_dir=str(tmp_path), resume="auto", parts={}, store=None, knobs={}, datalist="", seconds=-1)


def test_where_no_checkpoint_can_be_read_the_training_is_refused_and_nothing_is_removed(tmp_path):
    Training(tmp_path / "run").run()
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ValueError, match=r"epoch_00002\.pt is cut off .* no checkpoint is left, train with --resume never"
    ):
        Training(tmp_path / "run").run()
    assert sorted(tmp_path.rglob("*")) == before


def test_never_begins_anew_and_forgets_the_states_before(tmp_path):
    straight = Training(tmp_path / "straight").run()
    Training(tmp_path / "run").killed_in(2)
    again = Training(tmp_path / "run", resume="never").run()
    assert differences(straight.result(), again.result()) == []
    assert again.store.version == 2


def test_a_kill_between_a_renewal_and_its_checkpoint_takes_the_renewal_back(tmp_path):
    Training(tmp_path / "run").killed_in(2)
    store = PseudoLabelStore(tmp_path / "run" / "pseudo_labels")
    store.publish({"a": np.full((2, 2), 0.9)})
    (store.folder / "0003").mkdir()  # one more was cut off
    (store.folder / "0003" / "0-000000.npy").touch()
    (store.folder / ".current.json.17").touch()
    resumed = Training(tmp_path / "run").killed_in(2)
    assert resumed.store.version == 1
    np.testing.assert_allclose(resumed.store.get("a"), 0.1)
    assert sorted(path.name for path in store.folder.iterdir()) == ["0001", "current.json"]


def finished(training: Training, **knobs) -> str | None:
    return finished_training(
        output_dir=str(training.folder),
        resume="auto",
        knobs=training.knobs | knobs,
        datalist=training.checkpoints.datalist,
    )


def test_a_finished_training_says_so_and_an_unfinished_one_does_not(tmp_path):
    training = Training(tmp_path / "run")
    assert finished(training) is None
    training.killed_in(2)
    assert finished(training) is None
    Training(tmp_path / "run").run()
    text = (
        f"the training in {tmp_path / 'run'} is finished: nothing is left to do; --resume never trains from the start"
    )
    assert finished(training) == finished(training, num_workers=4, resume="auto") == text


def test_another_configuration_is_refused_naming_the_first_difference(tmp_path):
    training = Training(tmp_path / "run").killed_in(2)
    sentence = (
        r"the checkpoints in .*run/checkpoints are of another training: lam was 1\.0 and is 2\.0; give the former"
    )
    with pytest.raises(ValueError, match=sentence):
        finished(training, lam=2.0)
    with pytest.raises(ValueError, match=sentence):
        Training(tmp_path / "run", knobs={"lam": 2.0}).run()
    Path(training.checkpoints.datalist).write_text("{ }")
    with pytest.raises(ValueError, match=r"data has other content \(data_sha256\)"):
        finished(training)


def test_a_list_of_checkpoints_that_is_none_is_one_sentence(tmp_path):
    training = Training(tmp_path / "run").killed_in(2)
    (tmp_path / "run" / "checkpoints" / "checkpoints.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"checkpoints\.json is not a list of checkpoints .* train with --resume never"
    ):
        finished(training)


def test_a_full_disk_leaves_the_last_good_state(tmp_path):
    straight = Training(tmp_path / "straight").run()
    training = Training(tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(engine):
        if engine.state.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    training.trainer.add_event_handler(Events.EPOCH_STARTED, fill)
    try:
        with pytest.raises(OSError, match=r"File too large: .*epoch_00002\.pt"):
            training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints.json", "epoch_00001.pt"]
    assert differences(straight.result(), Training(tmp_path / "run").run().result()) == []


def test_random_states_come_back_for_all_generators():
    states = random_states()
    first = (random.random(), np.random.random(), torch.rand(3).tolist())  # noqa: NPY002
    set_random_states(states)
    assert (random.random(), np.random.random(), torch.rand(3).tolist()) == first  # noqa: NPY002


def test_the_random_states_of_more_processes_are_refused():
    with pytest.raises(ValueError, match="the checkpoint is of 2 processes and this training has 1: start as many"):
        set_random_states(random_states() * 2)
