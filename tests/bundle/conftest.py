"""A tiny phantom, and one training of it that several tests look at."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import monai
import pytest

from cvm_monai.cli.main import main

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
TRAIN = str(BUNDLE / "configs" / "train.yaml")
EVALUATE = [TRAIN, str(BUNDLE / "configs" / "evaluate.yaml")]
INFERENCE = str(BUNDLE / "configs" / "inference.yaml")
SMALL = {
    "network": "unet",
    "network_channels": [4, 8, 8, 8, 8],
    "crop_size": 64,
    "max_epochs": 2,
    "iterations": 5,
    "device": "cpu",
    "validate#renewal#workers": 1,
}
"""A training of seconds."""


@pytest.fixture(autouse=True)
def monai_as_it_was() -> Iterator[None]:
    """The bundle switches MONAI's meta tensors off and seeds everything: undo both for the tests that follow."""
    yield
    monai.data.set_track_meta(True)
    monai.utils.set_determinism(None)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight cases of 64 px."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    assert main(["phantom", str(folder), "--cases", "8", "--size", "64"]) == 0
    return str(folder)


@pytest.fixture(scope="session")
def trained(phantom: str, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The output folder of a training with tracking, by run id `training`."""
    output = tmp_path_factory.mktemp("run")
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(output), **SMALL)
    return SimpleNamespace(output=output, dataset=phantom)
