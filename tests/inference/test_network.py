"""A training's output folder becomes a network; an average is the mean of probabilities, at the right place."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cvm_monai.data.stain import ColourMoments, StainTarget, write_target
from cvm_monai.engines.selection import save_weights
from cvm_monai.inference import Averaged, average_networks, load_network, load_stain
from cvm_monai.inference.network import VIEWS, turned, turned_back
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


class Constant(nn.Module):
    """The same probability of the target everywhere."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.log(torch.tensor([1 - target, target])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[None, :, None, None].expand(x.shape[0], 2, *x.shape[-2:])


class LeftNeighbour(nn.Module):
    """The target's logit is the red of the pixel to the left: a network that knows directions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = torch.roll(x[:, 0], 1, dims=-1)
        return torch.stack([torch.zeros_like(red), red], dim=1)


def target(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(network(x), dim=1)[:, 1]


def test_two_networks_give_the_mean_of_their_probabilities_not_of_their_logits():
    both = Averaged([Constant(0.9), Constant(0.5)])
    np.testing.assert_allclose(target(both, torch.zeros(1, 3, 2, 3)), np.full((1, 2, 3), 0.7), atol=1e-6)


def test_one_network_without_flips_is_itself():
    x = torch.randn(1, 3, 5, 4)
    assert torch.equal(Averaged([LeftNeighbour()])(x), LeftNeighbour()(x))


def test_the_eight_views_differ_and_turn_back():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    views = [turned(x, view) for view in range(VIEWS)]
    assert len({str(view.tolist()) for view in views}) == 8
    assert all(torch.equal(turned_back(view, number), x) for number, view in enumerate(views))


def test_flips_average_over_all_four_neighbours_of_a_pixel():
    x = torch.zeros(1, 3, 5, 5)
    x[0, 0, 2, 2] = 10.0
    lit = float(torch.sigmoid(torch.tensor(10.0)))
    expected = np.full((5, 5), 0.5)
    for row, column in ((1, 2), (3, 2), (2, 1), (2, 3)):  # each is seen lit from one side out of four
        expected[row, column] = lit / 4 + 0.5 * 3 / 4
    np.testing.assert_allclose(target(Averaged([LeftNeighbour()], flips=True), x)[0], expected, atol=1e-6)


def test_a_probability_of_zero_stays_finite():
    found = Averaged([Constant(1.0), Constant(1.0)])(torch.zeros(1, 3, 2, 2))
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(torch.softmax(found, 1)[:, 1], 1.0)


def test_an_ensemble_is_read_from_the_trainings_folders(tmp_path: Path):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(build_network("unet", channels=[8] * 5, normalisation="batch").eval())
        save_weights(networks[-1], tmp_path / str(seed) / "models" / "model.pt")
        knobs = '{"knobs": {"network": "unet", "network_channels": [8, 8, 8, 8, 8]}}'
        (tmp_path / str(seed) / "run.json").write_text(knobs)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        both = average_networks(networks[0], ensemble=[tmp_path / "1"])
        mean = (target(networks[0], x) + target(networks[1], x)) / 2
        np.testing.assert_allclose(target(both, x), mean, atol=1e-6)
    assert not both.training


def test_an_ensemble_of_networks_that_see_other_stains_is_refused(tmp_path: Path):
    target = StainTarget("reinhard", ColourMoments(np.zeros(3), np.ones(3)), images=1)
    write_target(target, tmp_path / "models" / "stain.json")
    with pytest.raises(ValueError, match="was trained with --stain_normalisation reinhard, not none: leave it out"):
        average_networks(Constant(0.5), ensemble=[tmp_path])
    with pytest.raises(ValueError, match="there is no trained network at"):  # the stains agree
        average_networks(Constant(0.5), ensemble=[tmp_path], stain=target)


def test_what_cannot_be_averaged_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one network"):
        Averaged([])
    with pytest.raises(ValueError, match="there is no trained network at"):
        average_networks(Constant(0.5), ensemble=[tmp_path])
    with pytest.raises(ValueError, match="test_time_flips must be True or False, got 8"):
        average_networks(Constant(0.5), flips=8)  # type: ignore[arg-type]
