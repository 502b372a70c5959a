"""The model card says what the metadata and the configurations say."""

import json
import re

import pytest

from cvm_monai.bundle_files import read_config
from cvm_monai.knobs import TRAINING
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD

from .conftest import BUNDLE

CARD = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
FORMAT = METADATA["network_data_format"]
SECTIONS = (
    "Model Overview",
    "Intended use",
    "Input",
    "Output",
    "Performance",
    "Memory Consumption",
    "System configuration",
    "Limitations",
    "License",
)


def facts(section: str) -> dict[str, str]:
    """The table of a section."""
    text = CARD.split(f"### {section}\n")[1].split("\n#")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_card_has_the_sections_of_the_model_zoo(section):
    assert CARD.count(f"### {section}\n") == 1


def test_the_input_is_that_of_the_metadata_and_the_configurations():
    image, found = FORMAT["inputs"]["image"], facts("Input")
    channels = ", ".join(image["channel_def"].values())
    assert found["channels"] == f"{image['num_channels']}: {channels}"
    assert found["type"] == image["dtype"]
    low, high = image["value_range"]
    assert found["value range"].startswith(f"{low} to {high}: ")
    for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        assert f"{name} {', '.join(map(str, values))}" in found["value range"]
        assert tuple(read_config(BUNDLE / "configs" / "train.yaml")[f"image_{name}"]) == values
        assert tuple(TRAINING[f"image_{name}"].earlier) == values  # where an inference finds no record
    assert low <= min(-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    assert high >= max((1 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))


def test_the_output_is_that_of_the_metadata():
    pred, found = FORMAT["outputs"]["pred"], facts("Output")
    classes = ", ".join(pred["channel_def"].values())
    assert found["channels"].startswith(f"{pred['num_channels']} logits: {classes};")
    assert found["type"] == pred["dtype"]


def test_the_versions_are_those_of_the_metadata():
    versions = {"MONAI": "monai_version", "PyTorch": "pytorch_version", "NumPy": "numpy_version"}
    for name, key in versions.items():
        assert f"{name} {METADATA[key]}" in CARD


def test_the_use_is_that_of_the_metadata():
    assert METADATA["intended_use"] == "Research only; not for diagnosis"
    assert "Research only, not for diagnosis" in CARD
