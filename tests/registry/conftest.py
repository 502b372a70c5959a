"""Finished and evaluated trainings, made in an instant: random weights, a record, an MLflow run with test values."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import monai
import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.files import write_json
from cvm_monai.networks import build_network
from cvm_monai.runs.tracking import TrackedRun

CHANNELS = [4, 8, 8, 8, 8]
INFERENCE = str(Path(__file__).resolve().parents[2] / "bundle" / "configs" / "inference.yaml")
Maker = Callable[..., Path]


@pytest.fixture(autouse=True)
def surroundings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No MLflow address of the user's, and MONAI's switches as they were."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    monai.data.set_track_meta(True)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a SQLite database, made once: its tables take seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlruns.db'}"


@pytest.fixture(scope="session")
def finished(store: str, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes the output folder of a training; `tests` are what `evaluating` recorded."""

    def make(*, tests=None, data="a" * 64, fold=0, uri=store, seed=0, **knobs) -> Path:
        output = tmp_path_factory.mktemp("run")
        (output / "models").mkdir()
        torch.manual_seed(seed)
        network = build_network(
            "unet",
            channels=CHANNELS,
            out_channels=knobs.get("classes", 2),
            normalisation=knobs.get("normalisation", "batch"),
        )
        torch.save(network.state_dict(), output / "models" / "model.pt")
        knobs = {"network": "unet", "network_channels": CHANNELS, "fold": fold, "dataset_dir": "/secret", **knobs}
        run = TrackedRun(tracking_uri=uri, experiment="cvm_monai", artifact_dir=output / "mlruns")
        run.start("training")
        run.params({"fold": fold})
        run.tags({"data_sha256": data})
        run.metrics({"test_dice": 0.5, "test_dice_sd": 0.1, "test_brier": 0.2} if tests is None else tests)
        run.end("FINISHED")
        record = {"knobs": knobs, "status": "FINISHED", "data_sha256": data, "commit": "c0ffee"}
        write_json(output / "run.json", record | {"mlflow_run_id": run.run_id, "mlflow_tracking_uri": uri})
        names = ["background", "target", *(f"further {number}" for number in range(2, knobs.get("classes", 2)))]
        classes = {"classes": {name: number for number, name in enumerate(names)}}
        (output / "datalist.json").write_text(json.dumps(classes))
        return output

    return make


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two smooth random images, of odd sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (61, 83), "b": (96, 64)}.items():
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def bundle_masks(images: Path, tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Masks by image name as the bundle's own `run inference` writes them."""

    def segment(output: Path, **overrides) -> dict[str, np.ndarray]:
        folder = tmp_path / "prediction"
        places = {"dataset_dir": str(images), "output_dir": str(output), "prediction_dir": str(folder)}
        monai.bundle.run("inference", config_file=INFERENCE, device="cpu", **places, **overrides)
        return {name: np.array(Image.open(folder / f"{name}_mask.png")) for name in ("a", "b")}

    return segment
