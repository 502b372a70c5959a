"""A training's output folder with a tiny network, made once."""

import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

CHANNELS = [4, 8, 8, 8, 8]


HEAVY = ("torch", "monai", "mlflow.pyfunc", "skimage.measure", "openslide", "scipy.sparse.csgraph", "shapely",
         "cvm_monai.registry", "cvm_monai.inference.whole_slide", "cvm_monai.data.camelyon")  # fmt: skip
"""Imported before time and memory are limited: they belong to no case."""


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """What the commands import."""
    for name in HEAVY:
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and reads no broken file: the doctor's other checks, the slide's picture."""
    from cvm_monai.doctor import machine, project
    from cvm_monai.doctor.finding import Finding
    from cvm_monai.inference.whole_slide import results

    monkeypatch.setattr(machine, "examine_machine", lambda device: iter(()))
    monkeypatch.setattr(project, "check_config", lambda *arguments, **options: Finding("configuration", "PASS", "", ""))
    monkeypatch.setattr(results, "_write_overlay", lambda *arguments, **options: None)


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
    torch.save(build_network("unet", channels=CHANNELS).state_dict(), folder / "models" / "model.pt")
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
    Image.new("RGB", (40, 48)).save(folder / "data" / "a.png")
    write_geojson(folder / "data" / "a.geojson", Annotations((Point(1, 1, 1), Point(9, 9, 0))))
    cases = [
        {"case_id": name, "patient_id": f"p{name}", "image": "a.png", "points": "a.geojson", "mpp": 0.5,
         "sha256": {"image": "0"}, "fold": number % 4, "hospital": "north"}
        for number, name in enumerate("abcdefgh")
    ]  # fmt: skip
    datalist = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": cases}
    (folder / "data" / "datalist.json").write_text(json.dumps(datalist))
    absolute = [
        entry | {name: f"{folder}/data/a{suffix}" for name, suffix in (("image", ".png"), ("points", ".geojson"))}
        for entry in cases
    ]
    (folder / "datalist.json").write_text(json.dumps(datalist | {"cases": absolute}))
    return folder
