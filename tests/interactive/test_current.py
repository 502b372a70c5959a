"""Which network answers, and with which bundle."""

import json

import pytest
import torch

from cvm_monai.interactive.current import ModelLoader, recorded_knobs
from cvm_monai.networks import build_network

CHANNELS = [2, 3, 4, 5, 6]


@pytest.fixture
def bundle(tmp_path):
    """A bundle after its default training: the weights in `models/`, the record in `eval/`."""
    folder = tmp_path / "bundle"
    for name in ("models", "eval"):
        (folder / name).mkdir(parents=True)
    torch.save(
        build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), folder / "models" / "model.pt"
    )
    knobs = {"network": "unet", "network_channels": CHANNELS}
    (folder / "eval" / "run.json").write_text(json.dumps({"knobs": knobs}))
    return folder


def test_the_own_model_of_a_given_bundle_answers(bundle, tmp_path):
    current = ModelLoader(tmp_path / "work", bundle=bundle)
    found = current.get()
    assert (found.output_dir, found.trained) == (bundle / "eval", True)
    current.use(bundle / "eval")
    assert current.get().knobs["network"] == "unet"


def test_the_packages_own_model_is_found_beside_another_bundle(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("cvm_monai.interactive.current.bundle_root", lambda: str(bundle))
    current = ModelLoader(tmp_path / "work", bundle=tmp_path / "other")
    assert current.output_dir() is None
    current.use(bundle / "eval")
    assert current.get().output_dir == bundle / "eval"


def test_a_record_without_stains_normalises_none(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"knobs": {"network": "unet"}}))
    assert recorded_knobs(tmp_path)["stain_normalisation"] == "none"


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no trained network at"):
        ModelLoader(tmp_path).use(tmp_path / "nowhere")
