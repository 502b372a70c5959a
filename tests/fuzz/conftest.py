"""A training's output folder with a tiny network, made once."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from .broken_images import noise_image

CHANNELS = [4, 8, 8, 8, 8]


HEAVY = ("torch", "monai", "mlflow.pyfunc", "skimage.measure", "openslide", "scipy.sparse.csgraph", "shapely",
         "cvm_monai.registry", "cvm_monai.inference.whole_slide", "cvm_monai.data.camelyon",
         "cvm_monai.doctor.rehearsal", "cvm_monai.experiments.compare", "cvm_monai.registry.bundle_zip",
         "monai.bundle")  # fmt: skip
"""Imported before time and memory are limited: they belong to no case."""


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """What the commands import."""
    for name in HEAVY:
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and reads no broken file: the doctor's other checks, pictures, training."""
    from cvm_monai.doctor import machine, rehearsal
    from cvm_monai.doctor.estimate import Counts, Stage
    from cvm_monai.experiments import execute, report
    from cvm_monai.inference.whole_slide import results
    from cvm_monai.registry import exports

    stages = (Stage("training step", 0.25, "batch of 2", 900.0),)
    found = rehearsal.Rehearsal(stages, Counts(18, 3, 2, 40, renews=True), 100.0, 220.0, 2048.0, None, "cpu")
    monkeypatch.setattr(machine, "examine_machine", lambda device: iter(()))
    monkeypatch.setattr(rehearsal._Run, "train", lambda self: None)
    monkeypatch.setattr(rehearsal._Run, "infer", lambda self, config, place: None)
    monkeypatch.setattr(rehearsal._Run, "result", lambda self: found)
    monkeypatch.setattr(execute, "Processes", NoProcesses)
    monkeypatch.setattr(results, "_write_overlay", lambda *arguments, **options: None)
    monkeypatch.setattr(exports, "_WRITERS", dict.fromkeys(exports._WRITERS, write_facts))
    for name in ("method_boxes", "method_maps"):
        monkeypatch.setattr(report, name, lambda *arguments, **options: Figure((1, 1)))


def write_facts(network: Any, path: Path, facts: dict[str, str]) -> None:
    """In place of an export, which takes seconds: what it would say of itself."""
    path.write_text(json.dumps(facts))


class NoProcesses:
    """Carries out no training: the command is interrupted where the first would start."""

    def __init__(self, **options: Any) -> None:
        del options

    def __call__(self, run: Any, place: Any) -> Any:
        """As Ctrl-C."""
        raise KeyboardInterrupt

    def stop(self) -> None:
        """Nothing to end."""


@pytest.fixture(autouse=True)
def own_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each case imports its own bundle's scripts, as a process of its own would, whatever ran before it here."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "scripts").is_dir()])
    earlier = {name: sys.modules.pop(name) for name in _scripts()}
    yield
    for name in _scripts():
        del sys.modules[name]
    sys.modules.update(earlier)


def _scripts() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "scripts"]


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves, with the data set that it was trained on in `data`."""
    return make_training(tmp_path_factory.mktemp("fuzz") / "training")


def make_training(folder: Path) -> Path:
    """Write it."""
    import torch

    from cvm_monai.annotations import Annotations, Point, write_geojson
    from cvm_monai.networks import build_network

    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    torch.manual_seed(0)
    torch.save(
        build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), folder / "models" / "model.pt"
    )
    stain = {"method": "reinhard", "images": 3, "left_out": 0, "mean": [60.0, 10.0, -10.0], "spread": [9.0, 5.0, 5.0]}
    (folder / "models" / "stain.json").write_text(json.dumps(stain))
    knobs = {
        "network": "unet",
        "network_channels": CHANNELS,
        "classes": 2,
        "scale": 1.0,
        "mpp": 0.5,
        "fold": 0,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.2, 0.2, 0.2],
        "extractor_path": None,
        "stain_normalisation": "reinhard",
    }
    record = {"status": "FINISHED", "knobs": knobs, "data_sha256": "0" * 64, "mlflow_run_id": "1", "commit": None}
    (folder / "run.json").write_text(json.dumps(record | {"mlflow_tracking_uri": f"sqlite:///{folder}/mlruns.db"}))
    Image.fromarray(noise_image(np.random.default_rng(0), (48, 40, 3))).save(folder / "data" / "a.png")
    mask = Image.new("L", (40, 48))
    mask.paste(255, (5, 5, 25, 30))
    mask.save(folder / "data" / "mask.png")
    write_geojson(folder / "data" / "a.geojson", Annotations((Point(1, 1, 1), Point(9, 9, 0))))
    cases = [
        {"case_id": name, "patient_id": f"p{name}", "image": "a.png", "points": "a.geojson", "mask": "mask.png",
         "mpp": 0.5, "sha256": {"image": "0"}, "fold": number % 4, "hospital": "north"}
        for number, name in enumerate("abcdefgh")
    ]  # fmt: skip
    datalist = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": cases}
    (folder / "data" / "datalist.json").write_text(json.dumps(datalist))
    absolute = [
        entry | {name: f"{folder}/data/{entry[name]}" for name in ("image", "points", "mask")} for entry in cases
    ]
    (folder / "datalist.json").write_text(json.dumps(datalist | {"cases": absolute}))
    return folder
