"""Features for clicks where nothing is trained yet: a pretrained network's, or optical density alone."""

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.density import DENSITY_CHANNELS, DensityFeatures
from cvm_monai.networks.efficientnet_lite import imagenet_file
from cvm_monai.networks.extractor_names import IMAGENET, lite_name
from cvm_monai.supervision.frozen_features import FrozenFeatures

GRID = 4
"""Pixels for each feature vector: half of the finest stage's stride, so that its bilinear edges are not lost."""

SMALLEST = 256
"""Longer side in pixels that an image has at least when its features are computed."""


class ColdFeatures(nn.Module):
    """(1, 3, H, W), normalised by ImageNet's mean and deviation, to features (1, C, ceil(H / 4), ceil(W / 4)).

    An image whose longer side is below 256 px is enlarged by a whole factor to that or more, since the coarsest stage
    has one vector for 32 px.

    Attributes:
        kind: `imagenet`, the joined stages of EfficientNet-Lite with optical density; or `density`, that alone, where
            the package of the weights is not installed (extra `pretrained`).
        parts: channels of each stage, for `centred`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: tuple[int, ...]
        try:
            imagenet_file(lite_name(IMAGENET))
        except ValueError:
            self.kind, self.parts = "density", (DENSITY_CHANNELS,)
            self.source: nn.Module = DensityFeatures()
        else:
            frozen = FrozenFeatures(IMAGENET)
            assert frozen.parts is not None
            self.kind, self.parts, self.source = IMAGENET, frozen.parts, frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = _enlargement(x)
        return self.on_grid(x, (-(-x.shape[-2] * factor // GRID), -(-x.shape[-1] * factor // GRID)))

    def on_grid(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The features on a grid of `size` over the image, (1, C, *size); a small image is enlarged first."""
        factor = _enlargement(x)
        if factor > 1:
            x = functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
        if isinstance(self.source, FrozenFeatures):
            return self.source.on_grid(x, size)
        with torch.no_grad():
            return functional.adaptive_avg_pool2d(self.source(x), size)


def _enlargement(x: torch.Tensor) -> int:
    """The whole factor by which an image is enlarged."""
    return max(1, -(-SMALLEST // max(x.shape[-2:])))
