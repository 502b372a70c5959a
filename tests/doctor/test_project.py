"""Data set, tracking store and configuration as the doctor sees them, and the dry run against a real training."""

import functools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import monai
import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.cli.main import main
from cvm_monai.doctor.finding import Finding
from cvm_monai.doctor.project import check_config, check_data, check_store
from cvm_monai.doctor.rehearsal import rehearse

TRAIN = Path(__file__).resolve().parents[2] / "bundle" / "configs" / "train.yaml"
SMALL = {"network": "unet", "network_channels": [4, 8, 8, 8, 8], "crop_size": 64, "device": "cpu"}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    assert main(["phantom", str(folder), "--cases", "12", "--size", "64"]) == 0
    return folder


@pytest.fixture(autouse=True)
def monai_as_it_was() -> Iterator[None]:
    yield
    monai.data.set_track_meta(True)
    monai.utils.set_determinism(None)


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_data_set(tmp_path):
    missing = check_data(tmp_path)
    nowhere = check_data(tmp_path / "nowhere")
    assert (nowhere.status, nowhere.detail) == ("FAIL", f"there is no folder {tmp_path / 'nowhere'}")
    assert (missing.status, missing.detail) == ("WARN", f"no data set in {tmp_path}")
    (tmp_path / "a.png").touch()
    case = {"case_id": "a", "patient_id": "p", "image": "a.png", "points": None, "sha256": {}, "fold": 0}
    data = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(data))
    assert check_data(tmp_path) == Finding("data", "PASS", f"1 cases in {tmp_path / 'datalist.json'}")
    (tmp_path / "a.png").unlink()
    broken = check_data(tmp_path)
    assert broken.status == "FAIL"
    assert broken.detail.endswith("a.png does not exist; prepare the data again if it has moved")


def test_a_store_is_a_whole_database_that_is_only_read(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "run" / "mlruns.db"
    assert check_store(None, output=tmp_path / "run") == Finding("MLflow store", "PASS", f"{file} will be made")
    assert not file.parent.exists()
    file.parent.mkdir()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    assert check_store(None, output=tmp_path / "run").detail == f"{file} is whole"
    file.write_bytes(b"no database at all" * 100)
    damaged = check_store(f"sqlite:///{file}", output=tmp_path)
    assert (damaged.status, damaged.remedy) == ("FAIL", "move it away: the next training makes a new one")
    assert file.read_bytes() == b"no database at all" * 100


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_store_that_cannot_be_written_fails(tmp_path):
    tmp_path.chmod(0o500)
    assert "is read-only" in check_store(None, output=tmp_path / "run").detail


@pytest.mark.parametrize(
    "uri, status, words",
    [
        ("none", "PASS", "off"),
        ("file:///tmp/x", "FAIL", "is a folder, which MLflow no longer accepts"),
        ("http://127.0.0.1:9", "FAIL", "no MLflow server answers at http://127.0.0.1:9"),
    ],
)
def test_addresses_are_those_that_a_training_takes(tmp_path, uri, status, words):
    finding = check_store(uri, output=tmp_path)
    assert finding.status == status
    assert words in finding.detail


@pytest.mark.parametrize(
    "knobs, detail",
    [
        ({"eta": 2}, "--eta must be a number in [0, 1], got 2"),
        (
            {"network": "vgg"},
            "--network must be one of resnet34_unet, unet, two_component, timm_unet, frozen_probe, centred_probe, "
            "frozen_two_component, got",
        ),
        ({"fold": 9}, "fold 9 does not exist in"),
    ],
)
def test_a_configuration_fails_by_its_own_checks(phantom, knobs, detail):
    finding = check_config(TRAIN, dataset=phantom, knobs=knobs)
    assert finding.status == "FAIL"
    assert finding.detail.startswith(detail)


@pytest.mark.parametrize("name", ["parent_run_id", "experiment_name", "checkpoint_seconds", "eta"])
def test_a_reference_to_an_entry_that_does_not_exist_fails(phantom, name):
    finding = check_config(TRAIN, dataset=phantom, knobs={name: "@nothing"})
    assert finding.status == "FAIL"
    assert "nothing" in finding.detail


def test_a_configuration_that_suits_the_data_passes_and_writes_nothing(phantom):
    before = contents(phantom)
    found = check_config(TRAIN, dataset=phantom, knobs={"eta": 0.3})
    assert found == Finding("configuration", "PASS", f"{TRAIN} with 1 changed knobs")
    assert contents(phantom) == before


def test_a_broken_configuration_is_named(phantom, tmp_path):
    config = read_config(TRAIN)
    config["initialize"] = ["$1 / 0"]
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "broken.json"
    file.write_text(json.dumps(config))
    finding = check_config(file, dataset=phantom, knobs={})
    assert finding.status == "FAIL"
    assert finding.detail.startswith(f"{file} cannot be read:")


@pytest.mark.parametrize("supervision", ["cvm", "partial_ce"])
def test_a_dry_run_measures_each_part_and_leaves_nothing_behind(phantom, tmp_path, monkeypatch, supervision):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = contents(phantom)
    knobs = SMALL | {"supervision": supervision, "iterations": 5, "max_epochs": 7, "tracking_uri": "none"}
    found = rehearse(TRAIN, dataset=phantom, knobs=knobs)
    names = ["set-up", "read images", "training step", "validation", "renewal", "record", "inference"]
    expected = [name for name in names if name != "renewal" or supervision == "cvm"]
    assert [stage.name for stage in found.stages] == expected
    assert all(stage.seconds > 0 for stage in found.stages)
    counts = found.counts
    assert (counts.train_images + counts.validation_images, counts.max_epochs, counts.batch_size) == (9, 7, 2)
    assert counts.renewals == ((1, 2) if supervision == "cvm" else (0, 0))  # 7, were it not for renew_share
    assert found.images.startswith("all 9 decoded images are held in memory")
    assert 0 < found.fewest <= found.most
    assert found.memory_mib > 100
    assert contents(phantom) == before
    assert [path for path in tmp_path.iterdir() if not path.name.startswith("torchinductor")] == []  # torch's own cache


class WorkClock:
    """A clock that stands still but for what a training does: each kind of work takes its own seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from cvm_monai.engines import PointTrainer, PseudoLabelRenewal

        self.now, self.monkeypatch = 0.0, monkeypatch
        self.done: Counter[str] = Counter()
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        self._count(PointTrainer, "_iteration", "step")
        self._count(monai.engines.SupervisedEvaluator, "_iteration", "image")
        self._count(PseudoLabelRenewal, "_candidate", "pseudo-label")

    def _count(self, owner: type, method: str, work: str) -> None:
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def counted(*args, **options):
            self.now += SECONDS[work]
            self.done[work] += 1
            return inner(*args, **options)

        self.monkeypatch.setattr(owner, method, counted)


SECONDS = {"step": 2.0, "image": 0.5, "pseudo-label": 3.0}


@pytest.mark.ci
@pytest.mark.parametrize("changes", [{}, {"supervision": "partial_ce", "batch_size": 4, "val_interval": 2}])
def test_the_estimate_is_what_a_real_training_takes_by_a_clock_that_counts_its_work(
    phantom, tmp_path, monkeypatch, changes
):
    knobs = SMALL | {"max_epochs": 4, "iterations": 5, "tracking_uri": "none"} | changes
    clock = WorkClock(monkeypatch)
    found = rehearse(TRAIN, dataset=phantom, knobs=knobs)
    before, start = clock.done.copy(), clock.now
    place = {"dataset_dir": str(phantom), "output_dir": str(tmp_path)}
    monai.bundle.run("training", config_file=str(TRAIN), **(knobs | place))
    done, taken = clock.done - before, clock.now - start
    counts = found.counts
    validations = 4 // knobs.get("val_interval", 1)
    assert done["step"] == 4 * counts.steps
    assert done["image"] == validations * counts.validation_images
    fewest, most = (
        2.0 * done["step"] + 0.5 * done["image"] + 3.0 * renewals * counts.train_images for renewals in counts.renewals
    )
    assert (found.fewest, found.most) == pytest.approx((fewest, most))
    assert found.fewest <= taken <= found.most
    assert (done["pseudo-label"] > 0) is ("supervision" not in changes)
