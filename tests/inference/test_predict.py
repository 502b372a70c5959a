"""predict: an image's own size, the training's normalisation, any size."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensityRange
from PIL import Image
from torch import nn

from cvm_monai.data.stain import ColourMoments, StainTarget, normalise_stain
from cvm_monai.inference import predict, working_factor
from cvm_monai.inference.predict import IMAGENET_MEAN, IMAGENET_STD, network_input
from cvm_monai.networks import build_network


class RedIsTarget(nn.Module):
    """Logit of the target = normalised red; of the background 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), x[:, 0]], dim=1)


def random_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_probability_is_the_softmax_of_the_logits_of_the_normalised_image():
    image = random_image(5, 7)
    red = (image[..., 0] / 255 - 0.485) / 0.229
    probability = predict(RedIsTarget(), image)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-red)), atol=1e-6)


def test_the_normalisation_is_the_trainings():
    image = random_image(6, 4)
    training = Compose(
        [
            ScaleIntensityRange(a_min=0, a_max=255, b_min=0, b_max=1),
            NormalizeIntensity(subtrahend=list(IMAGENET_MEAN), divisor=list(IMAGENET_STD), channel_wise=True),
        ]
    )
    expected = training(torch.from_numpy(np.moveaxis(image, -1, 0).copy()))
    given = network_input(image, scale=1.0, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)
    np.testing.assert_allclose(given.numpy(), np.asarray(expected), atol=1e-6)


def test_a_scaled_image_comes_back_at_its_own_size_and_place():
    image = np.zeros((40, 61, 3), dtype=np.uint8)
    image[:, 30:] = 255
    for scale in (0.5, 2.0):
        mask = predict(RedIsTarget(), image, scale=scale) > 0.5
        assert mask.shape == (40, 61)
        assert not mask[:, :28].any()
        assert mask[:, 33:].all()


@pytest.mark.parametrize("name", ["resnet34_unet", "unet", "two_component"])
def test_every_network_takes_every_size(name):
    network = build_network(name, channels=[8] * 5, normalisation="batch").eval()
    for shape in ((1, 1), (5, 33), (31, 32), (65, 47)):
        probability = predict(network, random_image(*shape), window=64)
        assert probability.shape == shape
        assert np.isfinite(probability).all()


def test_windows_agree_with_one_pass_over_the_image():
    torch.manual_seed(0)
    network = build_network("unet", channels=[4, 8, 8, 8, 8], normalisation="batch")
    image = np.kron(random_image(19, 13), np.ones((16, 16, 1), dtype=np.uint8))[:300, :200]
    with torch.no_grad():  # batch statistics such as a training leaves
        network.train()(network_input(image, scale=1.0, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)[None])
    whole, windows = (predict(network, image, window=window) for window in (512, 128))
    assert whole.std() > 0.01
    assert np.abs(whole - windows).mean() < 0.25 * whole.std()
    assert np.corrcoef(whole.ravel(), windows.ravel())[0, 1] > 0.95


def test_the_networks_mode_is_restored():
    network = build_network("unet", channels=[2] * 5, normalisation="batch").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    predict(network, random_image(32, 32))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_other_images_and_scales_are_refused():
    with pytest.raises(ValueError, match=r"an image must be \(H, W, 3\) uint8 RGB, got \(4, 4\) uint8"):
        predict(RedIsTarget(), np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="scale must be greater than 0, got 0"):
        predict(RedIsTarget(), random_image(4, 4), scale=0)


def test_the_working_factor_is_the_scale_or_the_ratio_of_pixel_sizes():
    assert working_factor(scale=0.5, mpp=None, image_mpp=0.25, case_id="a") == 0.5
    assert working_factor(scale=0.5, mpp=1.0, image_mpp=0.25, case_id="a") == 0.25
    with pytest.raises(ValueError, match="trained at 1 um/px and those of the image a are not known: give --image_mpp"):
        working_factor(scale=0.5, mpp=1.0, image_mpp=None, case_id="a")


TARGET = StainTarget("reinhard", ColourMoments(np.array([60.0, 20, -10]), np.array([12.0, 8, 7])), images=1)


def test_stains_are_brought_to_the_target_after_the_resampling():
    image = random_image(40, 30)
    half = np.asarray(Image.fromarray(image).resize((15, 20), Image.Resampling.BILINEAR))
    expected = network_input(normalise_stain(half, TARGET))
    assert torch.equal(network_input(image, scale=0.5, stain=TARGET), expected)
    assert not torch.equal(network_input(image, scale=0.5), expected)


def test_an_image_without_tissue_keeps_its_stains_with_a_warning(caplog):
    glass = np.full((20, 20, 3), 250, dtype=np.uint8)
    assert torch.equal(network_input(glass, stain=TARGET), network_input(glass))
    assert "an image shows too little stained tissue to be normalised: left as it is" in caplog.text
