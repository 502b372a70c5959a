"""Optical density at several scales: features of stain and texture without learnt parameters."""

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD

SIGMAS = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the Gaussians in px: from the size of a nucleus to that of a small gland."""
DENSITY_CHANNELS = 6 * len(SIGMAS)
REACH = 3.0
"""Radius at which a Gaussian is truncated, in sigmas."""


class DensityFeatures(nn.Module):
    """Map (B, 3, H, W), normalised by ImageNet's mean and deviation, to features (B, 24, H, W); without parameters.

    The features are the mean and the deviation of the optical density -ln I of each colour (by the law of Lambert and
    Beer proportional to the amount of stain) under Gaussians of four sizes.

    Args:
        standardise: centre each map and scale it to deviation one over the image, so that the strength of the stain
            does not matter.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, *, standardise: bool = True) -> None:
        super().__init__()
        self._standardise = standardise
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        density = -torch.log((x.float() * self.deviation + self.mean).clamp(min=1 / 255))
        maps = []
        for sigma in SIGMAS:
            mean, square = smoothed(density, sigma), smoothed(density**2, sigma)
            maps += [mean, (square - mean**2).clamp(min=0) ** 0.5]
        found = torch.cat(maps, dim=1)
        return standardised(found) if self._standardise else found

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Zero logits (B, 2, H, W) and the features, in the form that networks return."""
        return x.new_zeros((len(x), 2, *x.shape[-2:])), self(x)


def standardised(maps: torch.Tensor) -> torch.Tensor:
    """Scale each map of (B, C, H, W) to mean 0 and deviation 1 over its image; a constant map becomes zeros."""
    centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
    spread = centred.std(dim=(-2, -1), keepdim=True)
    return centred / (spread + (spread == 0))


def smoothed(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth (B, C, H, W) by a Gaussian truncated at three sigma, with replicate padding."""
    reach = int(REACH * sigma)
    positions = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (positions / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(x.shape[1], 1, 1, 1)
    padded = functional.pad(x, [reach] * 4, mode="replicate")
    across = functional.conv2d(padded, weights, groups=x.shape[1])
    return functional.conv2d(across, weights.transpose(2, 3), groups=x.shape[1])
