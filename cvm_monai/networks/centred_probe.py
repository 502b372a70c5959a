"""A linear classifier of frozen features less each image's mean: few images, and slides that it never saw."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.density import smoothed
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen import FrozenExtractor, check_channels, one_length
from cvm_monai.networks.frozen_features import FrozenFeatures

CELL = 16
"""Pixels to a feature, in each direction, of an extractor whose stride is no whole number."""
SIGMA = 1.0
"""Standard deviation, in cells of the features, of the Gaussian that smooths the logits."""


@dataclass
class _Shared:
    """The mean (1, C, 1, 1) that parts of one image share, and the sums from which it is computed."""

    mean: torch.Tensor | None = None
    total: torch.Tensor | None = None
    count: int = 0

    def add(self, x: torch.Tensor) -> None:
        found = x.sum((0, 2, 3), keepdim=True, dtype=torch.float64)
        self.total = found if self.total is None else self.total + found
        self.count += x[:, 0].numel()

    def finish(self) -> None:
        if self.total is not None:
            self.mean = (self.total / self.count).float()


_SHARED: ContextVar[Mapping[int, _Shared]] = ContextVar("shared_means", default=MappingProxyType({}))
"""By the id of an `ImageMean`; of the running thread alone, since threads may share a network."""


class ImageMean(nn.Module):
    """Subtract from every channel of (B, C, h, w) its mean over the image: f_x - mean_x f_x, as `centred` does.

    What all pixels of an image share, above all its stain, is thereby removed. The mean of a small part of a large
    image says what tissue it holds and not how it is stained: `shared_means` replaces it by that of the whole.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = _SHARED.get().get(id(self))
        if shared is not None and shared.mean is not None:
            return x - shared.mean.to(x)
        if shared is not None:
            shared.add(x)
        return x - x.mean((2, 3), keepdim=True)


@contextmanager
def shared_means(network: Any, see: Callable[[], object]) -> Iterator[None]:
    """Within the context the network subtracts from each part of an image the mean of all that `see` shows it.

    It holds for the thread that entered it.

    Args:
        network: whose `ImageMean` modules are meant; one without any is left alone, and nothing is shown to it.
        see: runs the network over the parts of an image, or over a sample of them.
    """
    parts = network.modules() if isinstance(network, nn.Module) else ()
    shared = {id(part): _Shared() for part in parts if isinstance(part, ImageMean)}
    if not shared:
        yield
        return
    token = _SHARED.set({**_SHARED.get(), **shared})
    try:
        see()
        for one in shared.values():
            one.finish()
        yield
    finally:
        _SHARED.reset(token)


class CentredProbe(nn.Module):
    """Map (B, 3, H, W) to logits (B, out_channels, H, W) by a linear classifier of centred frozen features.

    Only the classifier learns: a 1x1 convolution of the vectors that `frozen_cvm` takes its evidence from
    (`FrozenFeatures`), on the grid of the extractor's finest stage. Each channel loses its mean over the image
    (`ImageMean`), and then each stage's vector is scaled to the same length, so that only directions count, as in the
    cosine of Eq. 4. The logits are smoothed by a Gaussian (`SIGMA`), since each cell is classified by itself, and
    resampled bilinearly to the image. An image that is seen in windows or tiles needs
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
        return self._classify(found, x), _to_image(found, x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._classify(self._centred(x), x)

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width

    def _classify(self, centred: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return _to_image(smoothed(self.out(centred).float(), SIGMA), x)

    def _centred(self, x: torch.Tensor) -> torch.Tensor:
        cell = self.extractor.stride or CELL
        found = self.frozen.on_grid(x, (-(-x.shape[-2] // cell), -(-x.shape[-1] // cell)))
        stages = self.mean(found.float()).split(self.frozen.parts or (self.frozen.channels,), dim=1)
        return one_length(torch.cat([functional.normalize(stage, dim=1) for stage in stages], dim=1))


def _to_image(maps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(maps.float(), x.shape[-2:], mode="bilinear", align_corners=False)
