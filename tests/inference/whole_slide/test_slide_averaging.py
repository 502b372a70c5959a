"""Flips and ensembles on slides: the written probability is the mean over the views and the networks, written out."""

import json

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from cvm_monai.engines.selection import save_weights
from cvm_monai.inference import Averaged
from cvm_monai.inference.whole_slide import SlideModel, SlideOptions, load_slide_model, predict_slides
from cvm_monai.networks import build_network

from .conftest import PLAIN, Red, pixels, write_slide

pytestmark = pytest.mark.usefixtures("no_picture")
CHANNELS = [4, 4, 4, 4, 4]


class Leftward(nn.Module):
    """The probability of the target is the red value of the pixel to the left, at the border the pixel's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Red()(nn.functional.pad(x, (1, 0, 0, 0), mode="replicate")[..., :-1])


class AcrossTheTile(nn.Module):
    """The probability rises linearly from 0 at the left of what the network is given to 0.8 at its right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[-1]
        p = 0.8 * (torch.arange(width) + 0.5) / width
        return torch.stack([torch.log1p(-p), torch.log(p)])[None, :, None].expand(len(x), 2, *x.shape[-2:])


def run(model, path, out, **options):
    """The probability of the foreground as it was written, (h, w) uint8."""
    report = predict_slides(model, [path], out, options=SlideOptions(tissue="none", **options), bar=False)
    assert report.failed == {}
    return tifffile.imread(out / path.stem / "probability.ome.tif")


def flipped(network):
    return SlideModel(Averaged([network], flips=True).eval(), mpp=0.5, **PLAIN)


def test_flips_give_the_mean_over_the_four_neighbours_that_a_view_shows_to_the_left(tmp_path):
    image = pixels(50, 70)
    found = run(flipped(Leftward()), write_slide(tmp_path / "a.tif", image), tmp_path / "out")
    red = np.pad(image[..., 0].astype(float), 1, mode="edge")
    expected = (red[1:-1, :-2] + red[1:-1, 2:] + red[:-2, 1:-1] + red[2:, 1:-1]) / 4
    assert np.abs(found - expected).max() <= 0.51


def test_flips_of_overlapping_tiles_take_away_what_depends_on_the_place_in_a_tile(tmp_path):
    path = write_slide(tmp_path / "a.tif", pixels(200, 330))
    one = run(SlideModel(AcrossTheTile().eval(), mpp=0.5, **PLAIN), path, tmp_path / "one", window=128)
    assert one.max() - one.min() > 100
    found = run(flipped(AcrossTheTile()), path, tmp_path / "eight", window=128)
    np.testing.assert_array_equal(found, np.full((200, 330), 102, np.uint8))  # 0.4: the mean of p(x) and p(1 - x)


def training(folder, target):
    """The output folder of a network that says the same probability of the target everywhere."""
    network = build_network("unet", channels=CHANNELS, normalisation="batch")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("up4.conv.4.bias")[0] = 1  # what the last layer, which has no bias, sees
        network.get_parameter("out.weight")[:, 0, 0, 0] = torch.log(torch.tensor([1 - target, target]))
    save_weights(network, folder / "models" / "model.pt")
    knobs = {"network": "unet", "network_channels": CHANNELS, "mpp": 0.5}
    (folder / "run.json").write_text(json.dumps({"knobs": knobs}))
    return folder


@pytest.fixture
def folds(tmp_path):
    return training(tmp_path / "fold_0", 0.8), training(tmp_path / "fold_1", 0.4)


@pytest.mark.parametrize("flips", [False, True])
def test_an_ensemble_of_folds_gives_the_mean_of_their_probabilities(folds, tmp_path, flips):
    path = write_slide(tmp_path / "a.tif", pixels(100, 150))
    for folder, expected in zip(folds, (204, 102), strict=True):
        alone = run(load_slide_model(folder), path, tmp_path / "out" / folder.name, window=64)
        np.testing.assert_array_equal(alone, np.full((100, 150), expected, np.uint8))
    both = load_slide_model(folds[0], ensemble=[str(folds[1])], flips=flips)
    found = run(both, path, tmp_path / "both", window=64)
    np.testing.assert_array_equal(found, np.full((100, 150), 153, np.uint8))  # 0.6; of mean logits 158


def test_results_of_one_network_are_no_results_of_its_ensemble_or_of_its_flips(folds, tmp_path):
    path = write_slide(tmp_path / "a.tif", pixels(64, 64))
    run(load_slide_model(folds[0]), path, tmp_path / "out")
    for options, reason in (
        ({"flips": True}, "test_time_flips was false and is true"),
        ({"ensemble": [str(folds[1])]}, "model was"),
    ):
        with pytest.raises(ValueError, match=f"a was made with other settings: {reason}"):
            run(load_slide_model(folds[0], **options), path, tmp_path / "out")
