"""Features for clicks where nothing is trained yet: colours at a few scales."""

import torch
from torch import nn
from torch.nn import functional

SIGMAS = (1.0, 2.0, 4.0)
"""Of the Gaussians in px: fine enough for nuclei, coarse enough for the look of a gland."""


class ColourFeatures(nn.Module):
    """Colours smoothed at three scales, each channel centred and scaled over the image; it has nothing to learn.

    Centring makes vectors of opposite sign out of colours on either side of the image's mean, which is what the cosine
    of Eq. 4 tells apart. Where classes share their colours it tells them apart no better than random weights do.
    """

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits that say nothing (B, 2, H, W), and features (B, 9, H, W) of an image (B, 3, H, W)."""
        maps = torch.cat([_smoothed(x, sigma) for sigma in SIGMAS], dim=1)
        centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
        spread = centred.std(dim=(-2, -1), keepdim=True)
        return x.new_zeros((len(x), 2, *x.shape[-2:])), centred / (spread + (spread == 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)[0]


def _smoothed(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """(B, C, H, W) under a Gaussian truncated at 3 sigma, the border repeated."""
    reach = int(3 * sigma)
    positions = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (positions / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(x.shape[1], 1, 1, 1)
    padded = functional.pad(x, [reach] * 4, mode="replicate")
    across = functional.conv2d(padded, weights, groups=x.shape[1])
    return functional.conv2d(across, weights.transpose(2, 3), groups=x.shape[1])
