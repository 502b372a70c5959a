"""A linear classifier of frozen features less each image's mean: few images, and slides that it never saw."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen import FrozenExtractor, check_channels, one_length
from cvm_monai.networks.frozen_features import FrozenFeatures

CELL = 16
"""Pixels to a feature, in each direction, of an extractor whose stride is no whole number."""


class ImageMean(nn.Module):
    """Subtract from every channel of (B, C, h, w) its mean over the image: f_x - mean_x f_x, as `centred` does.

    What all pixels of an image share, above all its stain, is thereby removed. The mean of a small part of a large
    image says what tissue it holds and not how it is stained: `shared_means` replaces it by that of the whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: torch.Tensor | None = None
        self._sums: list[tuple[torch.Tensor, int]] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._sums is not None:
            self._sums.append((x.sum((0, 2, 3), keepdim=True, dtype=torch.float64), x[:, 0].numel()))
        return x - (x.mean((2, 3), keepdim=True) if self.held is None else self.held.to(x))

    def measure(self) -> None:
        """Begin to add up all that passes."""
        self.held, self._sums = None, []

    def hold(self) -> None:
        """From now on subtract the mean of what passed since `measure`."""
        if self._sums:
            total = torch.stack([found for found, _ in self._sums]).sum(0)
            self.held = (total / sum(count for _, count in self._sums)).float()
        self._sums = None

    def release(self) -> None:
        """From now on subtract each image's own mean again."""
        self.held = self._sums = None


@contextmanager
def shared_means(network: Any, see: Callable[[], object]) -> Iterator[None]:
    """Within the context the network subtracts from each part of an image the mean of all that `see` shows it.

    Args:
        network: whose `ImageMean` modules are meant; one without any is left alone, and nothing is shown to it.
        see: runs the network over the parts of an image, or over a sample of them.
    """
    means = (
        [part for part in network.modules() if isinstance(part, ImageMean)] if isinstance(network, nn.Module) else []
    )
    try:
        if means:
            for mean in means:
                mean.measure()
            see()
            for mean in means:
                mean.hold()
        yield
    finally:
        for mean in means:
            mean.release()


class CentredProbe(nn.Module):
    """Map (B, 3, H, W) to logits (B, out_channels, H, W) by a linear classifier of centred frozen features.

    Only the classifier learns: a 1x1 convolution of the vectors that `frozen_cvm` takes its evidence from
    (`FrozenFeatures`), on the grid of the extractor's finest stage. Each channel loses its mean over the image
    (`ImageMean`), and then each stage's vector is scaled to the same length, so that only directions count, as in the
    cosine of Eq. 4. The logits are resampled bilinearly to the image. An image that is seen in windows or tiles needs
    `shared_means`: `WindowInferer` and the prediction of slides use it.

    Args:
        extractor_path, extractor_weights, feature_store, pretrained: see `FrozenFeatures`; the extractor's weights are
            part of the state dict.

    Raises:
        CvmError: whatever `FrozenFeatures` finds, other images than RGB, or fewer than two classes.
    """

    stride = 1

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        *,
        extractor_path: str | PathLike[str] | None,
        extractor_weights: str | PathLike[str] | None = None,
        feature_store: FeatureStore = NOT_STORED,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels)
        self.frozen = FrozenFeatures(
            extractor_path,
            extractor_weights=extractor_weights,
            feature_store=feature_store,
            pretrained=pretrained,
            standardise=False,
        )
        self.mean = ImageMean()
        self.out = nn.Conv2d(self.frozen.channels, out_channels, kernel_size=1)

    @property
    def extractor(self) -> FrozenExtractor:
        """The frozen extractor."""
        return self.frozen.extractor

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and the centred features (B, C, H, W), which take C floats per pixel."""
        found = self._centred(x)
        return _to_image(self.out(found), x), _to_image(found, x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _to_image(self.out(self._centred(x)), x)

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width

    def _centred(self, x: torch.Tensor) -> torch.Tensor:
        cell = self.extractor.stride or CELL
        found = self.frozen.on_grid(x, (-(-x.shape[-2] // cell), -(-x.shape[-1] // cell)))
        stages = self.mean(found.float()).split(self.frozen.parts or (self.frozen.channels,), dim=1)
        return one_length(torch.cat([functional.normalize(stage, dim=1) for stage in stages], dim=1))


def _to_image(maps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(maps.float(), x.shape[-2:], mode="bilinear", align_corners=False)
