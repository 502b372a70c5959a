"""Optical density as features: what the stain's strength and the texture change."""

import torch

from cvm_monai.networks.density import DENSITY_CHANNELS, DensityFeatures
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD


def normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def test_a_stain_of_another_strength_gives_the_same_features():
    """Twice the stain squares the light that is left: twice the density everywhere, which the scaling takes off."""
    light = 0.4 + 0.5 * torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    found, stronger = (DensityFeatures()(normalised(image)) for image in (light, light**2))
    assert found.shape == (1, DENSITY_CHANNELS, 32, 40)
    torch.testing.assert_close(stronger, found, atol=2e-3, rtol=0)


def test_texture_of_one_mean_is_told_apart_by_the_deviation():
    density = torch.full((1, 3, 32, 64), 0.5)
    density[..., 32:] += 0.3 * (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    found = DensityFeatures()(normalised(torch.exp(-density)))[0]
    deviation = found[3:6]  # of the smallest Gaussian
    assert float(deviation[:, 8:24, 4:24].max()) < 0 < float(deviation[:, 8:24, 40:60].min())


def test_a_flat_image_gives_zeros():
    assert not DensityFeatures()(normalised(torch.full((1, 3, 16, 16), 0.5))).abs().gt(1e-2).any()
