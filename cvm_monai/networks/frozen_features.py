"""Frozen features for the evidence: the stages of a frozen extractor, and optical density."""

from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvm_monai.networks.density import DENSITY_CHANNELS, DensityFeatures
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen import FrozenExtractor, to_grid


class FrozenFeatures(nn.Module):
    """Maps a normalised image (1, 3, H, W) to features (1, C, h, w) on a given grid, without a gradient.

    For an extractor with several stages (`imagenet`, `timm:NAME@stages`): the output of each stage and the optical
    density (`DensityFeatures`) as one more, concatenated; `parts` holds their channel counts, so that they can be
    centred and scaled separately (`centred`). For an extractor with one map: that map alone.

    Args:
        extractor_path, extractor_weights: see `FrozenExtractor`.
        feature_store: see `FrozenExtractor`; for several stages, what `on_grid` returns is stored.
        pretrained: see `FrozenExtractor`.
        standardise: see `DensityFeatures`.

    Attributes:
        parts: channels of each stage; None if there is one map.
        channels: C.

    Raises:
        CvmError: an error of `FrozenExtractor`.
    """

    def __init__(
        self,
        extractor_path: str | PathLike[str] | None,
        *,
        extractor_weights: str | PathLike[str] | None = None,
        feature_store: FeatureStore = NOT_STORED,
        pretrained: bool = True,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        self.extractor = FrozenExtractor(
            extractor_path, weights=extractor_weights, store=feature_store, pretrained=pretrained
        )
        side = 2 * self.extractor.grid
        widths = [int(found.shape[1]) for found in self.extractor.stages(torch.zeros(1, 3, side, side))]
        self.parts = None if len(widths) == 1 else (*widths, DENSITY_CHANNELS)
        self.channels = sum(self.parts) if self.parts else self.extractor.channels
        self.density = DensityFeatures(standardise=standardise)
        self._kind = "-stages-standardised" if standardise else "-stages"

    def on_grid(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Resample the features to a grid of `size` over the image: bilinear; density by area where it shrinks."""
        if self.parts is None:
            return self.extractor.on_grid(image, size)
        kind = f"{self._kind}-{size[0]}x{size[1]}"
        return self.extractor.stored(
            image, lambda images: self._joined(images, size), shape=(self.channels, *size), kind=kind
        )

    def _joined(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        multiple = self.extractor.grid
        stages = [to_grid(found, image=image, size=size, multiple=multiple) for found in self.extractor.stages(image)]
        with torch.no_grad():
            density = functional.adaptive_avg_pool2d(self.density(image), size)
        return torch.cat([*stages, density], dim=1)
