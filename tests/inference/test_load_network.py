"""A training's output folder becomes a network."""

import json

import numpy as np
import pytest
import torch

from cvm_monai.data.stain import ColourMoments, StainTarget, write_target
from cvm_monai.inference import load_network, load_stain
from cvm_monai.networks import build_network
from cvm_monai.networks.state import load_weights

CHANNELS = [2, 3, 4, 5, 6]


@pytest.fixture
def run(tmp_path):
    network = build_network("unet", channels=CHANNELS, normalisation="batch")
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    (tmp_path / "run.json").write_text(json.dumps({"knobs": {"network": "unet", "network_channels": CHANNELS}}))
    return tmp_path, network


def test_the_network_is_the_recorded_one_in_evaluation_mode(run):
    folder, network = run
    loaded = load_network(folder)
    assert not loaded.training
    image = torch.rand(1, 3, 40, 33)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network.eval()(image))


def test_a_folder_without_a_model_says_how_to_train(tmp_path):
    with pytest.raises(ValueError, match=r"there is no trained network at .*model\.pt: run .*training .* first"):
        load_network(tmp_path)


def test_weights_of_another_network_are_refused(run):
    folder, _ = run
    other = build_network("unet", channels=[2, 3, 4, 5, 7], normalisation="batch")
    with pytest.raises(ValueError, match=r"do not fit the network UNet: \d+ of them .*--network_channels"):
        load_weights(other, folder / "models" / "model.pt")


def test_files_that_are_no_state_dict_are_refused(tmp_path):
    network = build_network("unet", channels=CHANNELS, normalisation="batch")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"damaged\.pt cannot be read as weights"):
        load_weights(network, tmp_path / "damaged.pt")
    torch.save(network, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match=r"pickled\.pt cannot be read as weights: .* more than tensors"):
        load_weights(network, tmp_path / "pickled.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt is not a network's state dict"):
        load_weights(network, tmp_path / "list.pt")


@pytest.mark.parametrize("recorded", [{}, {"stain_normalisation": "reinhard"}])
def test_the_stain_target_is_found_whether_it_is_recorded_or_only_lies_beside_the_weights(run, recorded):
    folder, _ = run
    assert load_stain(folder) is None
    (folder / "run.json").write_text(json.dumps({"knobs": recorded}))
    target = StainTarget("reinhard", ColourMoments(np.array([50.0, 20, -10]), np.array([9.0, 8, 7])), images=3)
    write_target(target, folder / "models" / "stain.json")
    assert load_stain(folder).reference.mean.tolist() == [50, 20, -10]
    (folder / "run.json").write_text(json.dumps({"knobs": {"stain_normalisation": "none"}}))
    assert load_stain(folder) is None
