"""The dense CRF loss against a double loop over pixels, its closed-form gradient, Potts' form and PIL's reduction."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.losses import bilateral_sum, crf_regularisation, dense_crf
from cvm_monai.losses import crf as module

SIGMAS = {"sigma_xy": 2.5, "sigma_rgb": 60.0}


def scene(*, batch=2, classes=2, height=6, width=7, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Random probabilities and a random image from 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(batch, classes, height, width, generator=generator, dtype=dtype)
    return logits.softmax(dim=1), 255 * torch.rand(batch, 3, height, width, generator=generator, dtype=dtype)


def brute_force_kernel(image: np.ndarray, *, sigma_xy: float, sigma_rgb: float) -> np.ndarray:
    """W (N, N) of one image (3, H, W), entry by entry."""
    pixels = list(np.ndindex(*image.shape[1:]))
    kernel = np.empty((len(pixels), len(pixels)))
    for i, (row, column) in enumerate(pixels):
        for j, (other_row, other_column) in enumerate(pixels):
            place = (row - other_row) ** 2 + (column - other_column) ** 2
            colour = sum((image[:, row, column] - image[:, other_row, other_column]) ** 2)
            kernel[i, j] = math.exp(-place / (2 * sigma_xy**2) - colour / (2 * sigma_rgb**2))
    return kernel


def kernels(image: torch.Tensor) -> list[np.ndarray]:
    return [brute_force_kernel(one.double().numpy(), **SIGMAS) for one in image]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_equals_the_double_loop_whatever_the_block(monkeypatch, dtype, rows):
    s, image = scene(dtype=dtype)
    monkeypatch.setattr(module, "BLOCK_BYTES", rows * s[0, 0].numel() * s.element_size())
    expected = [
        sum(channel.double().flatten().numpy() @ kernel @ channel.double().flatten().numpy() for channel in one)
        for one, kernel in zip(s, kernels(image), strict=True)
    ]
    assert dense_crf(s, image, **SIGMAS).item() == pytest.approx(-sum(expected) / 2, rel=1e-5)


def test_gradient_is_minus_two_w_s_over_the_batch():
    s, image = scene()
    s.requires_grad_()
    (3 * dense_crf(s, image, **SIGMAS)).backward()
    for gradient, one, kernel in zip(s.grad, s.detach(), kernels(image), strict=True):
        for found, channel in zip(gradient, one, strict=True):
            expected = 3 * -2 / 2 * kernel @ channel.flatten().numpy()
            np.testing.assert_allclose(found.flatten(), expected, rtol=1e-10)


def test_gradients_against_finite_differences():
    s, image = scene(batch=1, height=3, width=4)
    logits = s.log().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: 1000 * crf_regularisation(z, image, grid=3, **SIGMAS), logits)


@pytest.mark.parametrize("classes", [2, 3])
def test_differs_from_the_potts_form_by_the_sum_of_the_kernel(classes):
    s, image = scene(classes=classes)
    potts = constant = 0.0
    for one, kernel in zip(s, kernels(image), strict=True):
        potts += sum(channel.flatten().numpy() @ kernel @ (1 - channel.flatten().numpy()) for channel in one) / 2
        constant += kernel.sum() / 2
    assert dense_crf(s, image, **SIGMAS).item() == pytest.approx(potts - constant, rel=1e-10)


def test_batched_is_one_by_one():
    s, image = scene(batch=3)
    filtered = bilateral_sum(s, image, **SIGMAS)
    for index in range(3):
        part = slice(index, index + 1)
        torch.testing.assert_close(filtered[part], bilateral_sum(s[part], image[part], **SIGMAS))


def test_two_colours_do_not_see_each_other():
    """Left half black, right half white, sigma_rgb 1: W is the place kernel within each half, zero between them."""
    image = torch.zeros(1, 3, 2, 4)
    image[..., 2:] = 255
    ones = torch.zeros(1, 1, 2, 4)
    ones[..., :2] = 1
    near, far = math.exp(-0.5), math.exp(-1.0)
    expected = torch.tensor([1 + 2 * near + far] * 2 + [0.0] * 2).expand(2, 4)
    torch.testing.assert_close(bilateral_sum(ones, image, sigma_xy=1, sigma_rgb=1)[0, 0], expected)


def test_is_the_literal_loss_over_pixels_and_neighbourhood_when_nothing_is_reduced():
    s, image = scene()
    expected = dense_crf(s, image, **SIGMAS) / (6 * 7 * 2 * math.pi * SIGMAS["sigma_xy"] ** 2)
    torch.testing.assert_close(crf_regularisation(s.log(), image, grid=7, **SIGMAS), expected)


def test_the_map_is_reduced_like_pil_s_bilinear_and_the_image_by_area():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 2, 24, 12, generator=generator)
    image = 255 * torch.rand(1, 3, 48, 24, generator=generator)
    small = image.reshape(1, 3, 8, 6, 4, 6).mean((3, 5))
    s = [
        np.array(Image.fromarray(channel.numpy()).resize((4, 8), Image.Resampling.BILINEAR))
        for channel in logits.softmax(1)[0]
    ]
    sigma = 12.0 * 8 / 48
    literal = dense_crf(torch.tensor(np.stack(s))[None], small, sigma_xy=sigma, sigma_rgb=60.0)
    found = crf_regularisation(logits, image, grid=8, sigma_xy=12.0, sigma_rgb=60.0)
    assert found.item() == pytest.approx(literal.item() / (8 * 4 * 2 * math.pi * sigma**2), rel=1e-5)


def smooth_scene(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright disc on a dark ground, and logits of a shifted disc, of the same field of view at any side."""
    axis = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    disc = torch.sigmoid(40 * (0.25 - ((rows - 0.5) ** 2 + (columns - 0.5) ** 2).sqrt()))
    other = torch.sigmoid(20 * (0.25 - ((rows - 0.6) ** 2 + (columns - 0.5) ** 2).sqrt()))
    return torch.stack([1 - other, other])[None].log(), (80 + 100 * disc).expand(1, 3, side, side)


@pytest.mark.parametrize("side, grid", [(96, 32), (96, 96), (48, 48), (192, 64)])
def test_the_value_hardly_depends_on_resolution_or_grid(side, grid):
    """Compared with 96 px reduced to 48, sigma_xy staying a tenth of the side."""
    reference = crf_regularisation(*smooth_scene(96), grid=48, sigma_xy=9.6, sigma_rgb=30.0).item()
    found = crf_regularisation(*smooth_scene(side), grid=grid, sigma_xy=side / 10, sigma_rgb=30.0).item()
    assert found == pytest.approx(reference, rel=0.05)


def test_certain_and_constant_on_one_colour_tends_to_minus_one():
    logits = torch.tensor([-20.0, 20.0])[None, :, None, None].expand(1, 2, 64, 64)
    image = torch.full((1, 3, 64, 64), 90.0)
    assert crf_regularisation(logits, image, sigma_xy=2.0).item() == pytest.approx(-1, abs=0.06)  # less at the borders
    unsure = crf_regularisation(torch.zeros_like(logits), image, sigma_xy=2.0)
    assert unsure.item() == pytest.approx(-0.5, abs=0.03)


def test_a_reach_below_one_pixel_leaves_the_pixel_itself():
    """W is then the identity: -1 for a certain segmentation, -1/2 for an unsure one."""
    image = torch.zeros(1, 3, 64, 64)
    unsure, certain = torch.zeros(1, 2, 64, 64), torch.tensor([20.0, -20.0])[None, :, None, None].expand(1, 2, 64, 64)
    for logits, expected in ((unsure, -0.5), (certain, -1)):
        assert crf_regularisation(logits, image, grid=8, sigma_xy=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_descending_it_alone_aligns_a_segment_with_colour():
    """Pixels of the disc's colour that the prediction leaves out are drawn in, and the others out."""
    logits, image = smooth_scene(24)
    logits = logits.clone().requires_grad_()
    truth = image[0, 0] > 130
    before = ((logits[0, 1] > logits[0, 0]) == truth).float().mean()
    for _ in range(200):
        logits.grad = None
        crf_regularisation(logits, image, sigma_xy=4.0, sigma_rgb=20.0).backward()
        logits.data -= 200 * logits.grad
    after = ((logits[0, 1] > logits[0, 0]) == truth).float().mean()
    assert before < 0.93
    assert after > 0.97


def test_half_precision_and_autocast_change_nothing():
    s, image = scene(dtype=torch.float32)
    logits = s.log().to(torch.bfloat16)
    expected = crf_regularisation(logits.float(), image, **SIGMAS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = crf_regularisation(logits, image, **SIGMAS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_the_same_call_gives_the_same_bits():
    s, image = scene(dtype=torch.float32, height=80, width=70)
    values = []
    for _ in range(2):
        logits = s.log().requires_grad_()
        loss = crf_regularisation(logits, image)
        loss.backward()
        values.append((loss.item(), logits.grad))
    assert values[0][0] == values[1][0]
    assert torch.equal(values[0][1], values[1][1])


def test_wrong_arguments_are_refused():
    s, image = scene()
    with pytest.raises(ValueError, match="grid must be a whole number of at least 2, got 1"):
        crf_regularisation(s, image, grid=1)
    with pytest.raises(ValueError, match="sigma_xy must be a finite number greater than 0, got 0"):
        crf_regularisation(s, image, sigma_xy=0)
    with pytest.raises(ValueError, match="sigma_rgb must be a finite number greater than 0, got -1"):
        crf_regularisation(s, image, sigma_rgb=-1)
    with pytest.raises(ValueError, match=r"logits must be \(B, C, H, W\), not \(2, 6, 7\)"):
        crf_regularisation(s[0], image)
    with pytest.raises(ValueError, match=r"image must be \(2, 3, 6, 7\) to go with the map, got \(1, 3, 6, 7\)"):
        dense_crf(s, image[:1], **SIGMAS)
