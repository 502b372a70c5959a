"""predict: an image's own size, the training's normalisation; windows give what one pass over the image gives."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensityRange
from PIL import Image
from torch import nn
from torch.nn import functional

from cvm_monai.data.stain import ColourMoments, StainTarget, normalise_stain
from cvm_monai.inference import WindowInferer, predict, working_factor
from cvm_monai.inference.predict import IMAGENET_MEAN, IMAGENET_STD, network_input
from cvm_monai.networks import build_network


class RedIsTarget(nn.Module):
    """Logit of the target = normalised red; of the background 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), x[:, 0]], dim=1)


class RedOfNeighbours(nn.Module):
    """Logit of the target = mean of the normalised red of the pixel and its eight neighbours, of which none is 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = functional.avg_pool2d(x[:, :1], 3, stride=1, padding=1)[:, 0]
        return torch.stack([torch.zeros_like(red), red], dim=1)


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


def blended(logits: list[tuple[int, int, np.ndarray]], side: int, shape: tuple[int, int]) -> np.ndarray:
    """Logits of square windows at (row, column), averaged by a Gaussian of 1/8 of a side, which ends at 1/1000."""
    line = np.exp(-(((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) / 2)
    weight = np.maximum(np.outer(line, line), 1e-3)
    total, weights = np.zeros((2, *shape)), np.zeros(shape)
    for row, column, found in logits:
        total[:, row : row + side, column : column + side] += weight * found
        weights[row : row + side, column : column + side] += weight
    return total / weights


def test_an_image_larger_than_a_window_is_the_gaussian_average_of_the_logits_of_its_windows():
    torch.manual_seed(0)
    network = build_network("unet", channels=[4, 8, 8, 8, 8], normalisation="batch")
    image = np.kron(random_image(19, 13), np.ones((16, 16, 1), dtype=np.uint8))[:300, :200]
    batch = network_input(image, scale=1.0, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)[None]
    padded = functional.pad(batch, [0, 24, 0, 20], mode="replicate")  # to 320 x 224, multiples of 32
    with torch.no_grad():
        network.train()(batch)  # batch statistics such as a training leaves
        network.eval()
        windows = [
            (row, column, network(padded[..., row : row + 128, column : column + 128])[0].numpy())
            for row in (0, 96, 192)
            for column in (0, 96)
        ]
    background, target = blended(windows, 128, (320, 224))[:, :300, :200]
    expected = 1 / (1 + np.exp(background - target))
    found = predict(network, image, window=128)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - predict(network, image, window=512)).max() > 0.01  # one pass sees beyond the windows


def test_windows_give_what_one_pass_gives_where_the_network_sees_within_them():
    """A mean over 3 x 3 px sees zeros beyond a window, which spoils the pixels at the windows' borders alone."""
    network = RedOfNeighbours()
    image = random_image(300, 200)
    whole, windows = (predict(network, image, window=window) for window in (512, 128))
    inside = np.ones((300, 200), dtype=bool)
    for border in (96, 128, 192, 224):  # windows of 128 px begin every 96; 320 and 224 are beyond the image's end
        inside[border - 1 : border + 1] = False
    for border in (96, 128):
        inside[:, border - 1 : border + 1] = False
    inside[[0, -1]] = inside[:, [0, -1]] = False  # the image's own end, which windows pad by repeating it
    assert inside.mean() > 0.9
    np.testing.assert_allclose(windows[inside], whole[inside], atol=1e-5)
    assert np.abs(windows - whole)[~inside].max() > 0.001


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


def position_image(height: int, width: int) -> torch.Tensor:
    """(1, 3, H, W): row, column, 1."""
    rows = torch.arange(height).float()[:, None].expand(height, width)
    columns = torch.arange(width).float()[None].expand(height, width)
    return torch.stack([rows, columns, torch.ones(height, width)])[None]


def mean_of_cells(x: torch.Tensor) -> torch.Tensor:
    """A network with output at 1/16, rounded up, that sees nothing beyond each 16 x 16 cell."""
    padded = functional.pad(x, [0, -x.shape[-1] % 16, 0, -x.shape[-2] % 16], mode="replicate")
    return functional.avg_pool2d(padded, 16)[:, :2]


def test_an_image_of_the_windows_size_goes_through_in_one_pass_and_unpadded():
    seen = []
    image = torch.rand(1, 3, 65, 128)
    logits = WindowInferer(window=128)(image, lambda x: seen.append(x) or x)
    assert len(seen) == 1
    assert seen[0] is image
    assert logits is image


@pytest.mark.parametrize("shape", [(300, 200), (129, 40), (128, 257), (31, 1000)])
@pytest.mark.parametrize("window, overlap", [(128, 0.25), (96, 0.25), (64, 0.5), (96, 0.0)])
def test_windows_of_a_pointwise_network_give_its_output_at_every_pixel(shape, window, overlap):
    image = position_image(*shape)
    logits = WindowInferer(window=window, overlap=overlap)(image, lambda x: 2 * x[:, :2])
    assert logits.shape == (1, 2, *shape)
    torch.testing.assert_close(logits, 2 * image[:, :2], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(300, 200), (135, 130), (64, 401)])
@pytest.mark.parametrize("window", [96, 128])
def test_windows_of_a_network_with_output_at_a_sixteenth_give_each_cell_its_own_value(shape, window):
    image = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    logits = WindowInferer(window=window)(image, mean_of_cells)
    torch.testing.assert_close(logits, mean_of_cells(image), rtol=1e-5, atol=1e-6)


def test_windows_begin_at_multiples_of_32_and_overlap_by_at_least_what_was_asked():
    corners = []

    def network(x: torch.Tensor) -> torch.Tensor:
        corners.append((int(x[0, 0, 0, 0]), int(x[0, 1, 0, 0]), *x.shape[-2:]))
        return x[:, :2].clone()

    WindowInferer(window=128, overlap=0.25)(position_image(300, 100), network)  # padded to 320 x 128
    assert corners == [(0, 0, 128, 128), (96, 0, 128, 128), (192, 0, 128, 128)]
    corners.clear()
    WindowInferer(window=96, overlap=0.25)(position_image(200, 200), network)  # 72 is rounded to 64
    assert {row for row, *_ in corners} == {0, 64, 128}
    assert {column for _, column, *_ in corners} == {0, 64, 128}


def test_a_window_out_of_range_is_refused():
    with pytest.raises(ValueError, match="--window must be a multiple of 32 from 64 to 16384 pixels, got 100"):
        WindowInferer(window=100)
    with pytest.raises(ValueError, match=r"--overlap must be a number in \[0, 0.75\], got 1"):
        WindowInferer(overlap=1)
