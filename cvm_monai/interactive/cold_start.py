"""Compute features for clicks without a trained model: a pretrained network's, or optical density alone."""

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.density import DENSITY_CHANNELS, DensityFeatures
from cvm_monai.networks.efficientnet_lite import imagenet_file
from cvm_monai.networks.extractor_names import IMAGENET, lite_name
from cvm_monai.networks.frozen_features import FrozenFeatures

GRID = 4
"""Image pixels per feature vector: half of the finest stage's stride, to keep the edges of its interpolation."""

SMALLEST = 256
"""Smallest longer side, in pixels, of an image whose features are computed; smaller ones are enlarged."""


def cold_kind() -> str:
    """Return the kind of features without a trained network, see `ColdFeatures`; nothing is loaded."""
    try:
        imagenet_file(lite_name(IMAGENET))
    except ValueError:
        return "density"
    return IMAGENET


class ColdFeatures(nn.Module):
    """Maps (1, 3, H, W), normalised by ImageNet's mean and deviation, to features (1, C, ceil(H / 4), ceil(W / 4)).

    An image whose longer side is below 256 px is enlarged by a whole factor to at least that, since the coarsest stage
    has a stride of 32 px.

    Attributes:
        kind: `imagenet`, the concatenated stages of EfficientNet-Lite and optical density; or `density`, optical
            density alone, where the package of the weights is not installed (extra `pretrained`).
        parts: number of channels of each stage, for `centred`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kind = cold_kind()
        self.parts: tuple[int, ...] = (DENSITY_CHANNELS,)
        self.source: nn.Module = DensityFeatures()
        if self.kind == IMAGENET:
            frozen = FrozenFeatures(IMAGENET)
            assert frozen.parts is not None
            self.parts, self.source = frozen.parts, frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = _enlargement(x)
        return self.on_grid(x, (-(-x.shape[-2] * factor // GRID), -(-x.shape[-1] * factor // GRID)))

    def on_grid(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Compute the features on a grid of `size` over the image, (1, C, *size); a small image is enlarged first."""
        factor = _enlargement(x)
        if factor > 1:
            x = functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
        if isinstance(self.source, FrozenFeatures):
            return self.source.on_grid(x, size)
        with torch.no_grad():
            return functional.adaptive_avg_pool2d(self.source(x), size)


def _enlargement(x: torch.Tensor) -> int:
    """Return the whole factor by which an image is enlarged."""
    return max(1, -(-SMALLEST // max(x.shape[-2:])))
