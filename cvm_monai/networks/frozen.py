"""A frozen feature extractor, from a local file or by name, and a linear classifier of its features."""

import hashlib
from collections.abc import Callable
from functools import cache
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.networks.blocks import pad_to_multiple
from cvm_monai.networks.efficientnet_lite import SIZES
from cvm_monai.networks.extractor_files import Layer3Map, checked_extractor, is_script, read_script
from cvm_monai.networks.extractor_names import TIMM, is_imagenet, is_name, is_timm, lite_name
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.imagenet_extractor import ImageNetExtractor
from cvm_monai.networks.timm_extractor import TimmExtractor
from cvm_monai.networks.timm_weights import timm_version

GRID = 32
"""Sides of the input of an extractor from a file are multiples of this, and at least two of them."""


class FrozenExtractor(nn.Module):
    """Map (B, 3, H, W), normalised, to features (B, `channels`, h, w) of the padded image, without a gradient.

    The network stays in evaluation mode whatever `train` says. Images are padded as by `pad_to_multiple` with `grid`.

    Args:
        path: ResNet34 weights as `load_encoder_weights` takes them, of which layer 3 is used (256 channels at 1/16, the
            paper's extractor before any training); or any other network as TorchScript, (B, 3, H, W) float32 to
            (B, C, h, w) at any stride; or `imagenet` (`imagenet:lite1`, `imagenet:lite2`), see `ImageNetExtractor`; or
            `timm:NAME`, see `TimmExtractor`. A TorchScript file is a program that is executed: use only files that you
            trust.
        weights: of `timm:NAME`, a local file; None starts at random, with a warning.
        store: where features are kept. Those of an image with identical pixels are then read and not computed again;
            they are always computed in float32, also in mixed precision.
        pretrained: False starts an extractor that is given by name at random, for weights that are loaded next; neither
            its package nor a file is read, and nothing is stored.

    Attributes:
        channels: C.
        grid: the sides of the network's input are multiples of this, and at least two of them: 32, or the smallest
            multiple of the patch size that is not below 32.
        stride: input pixels for each feature; None where that is not a whole number.

    Raises:
        CvmError: no path, a missing file, one of neither format, or a network that does not fit that description.
    """

    channels: int

    def __init__(
        self,
        path: str | PathLike[str] | None,
        *,
        weights: str | PathLike[str] | None = None,
        store: FeatureStore = NOT_STORED,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        by_name = isinstance(path, str) and is_name(path) and not pretrained
        self.path, self.grid = str(path) if by_name else checked_extractor(path, weights), GRID
        self._store = NOT_STORED if by_name else store
        self.network: nn.Module = _network(self.path, weights, pretrained=pretrained)
        if isinstance(self.network, TimmExtractor):
            self.grid = self.network.grid
        self.requires_grad_(False)
        self.train(False)
        trial = self._extract(torch.zeros(1, 3, 2 * self.grid, 2 * self.grid))
        self.channels = trial.shape[1]
        self.stride = None if 2 * self.grid % trial.shape[-1] else 2 * self.grid // trial.shape[-1]
        self._identity = "" if store.folder is None else self._identify(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = pad_to_multiple(x, self.grid)
        rows, columns = (side // int(self.stride or 1) for side in padded.shape[-2:])
        return self.stored(padded, self._extract, shape=(self.channels, rows, columns))

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps of the padded image that `forward` joins, the finest first.

        A mean is to be subtracted from these maps, before `join_stages` scales and joins them. An extractor of one map
        gives that one. They are computed on each call; `FrozenFeatures` stores them.
        """
        padded = pad_to_multiple(x, self.grid)
        if not isinstance(self.network, ImageNetExtractor | TimmExtractor):
            return [self._extract(padded)]
        with torch.no_grad():
            return [found.float() for found in self.network.stages(padded)]

    def on_grid(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Compute features of images (B, 3, H, W), resampled bilinearly to a grid of `size`, (B, `channels`, *size)."""
        return to_grid(self(x), image=x, size=size, multiple=self.grid)

    def train(self, mode: bool = True) -> "FrozenExtractor":
        """Stay in evaluation mode: batch statistics must not change the features."""
        del mode
        return super().train(False)

    def _extract(self, padded: torch.Tensor) -> torch.Tensor:
        try:
            with torch.no_grad():
                features = self.network(padded)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise CvmError(
                f"the extractor {self.path} failed on an image of {tuple(padded.shape)}: it must take any sides that "
                f"are multiples of {self.grid} from {2 * self.grid} ({reason})"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 4 or features.shape[0] != padded.shape[0]:
            found = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise CvmError(f"the extractor {self.path} must give features (B, C, h, w), not {found}")
        return features.float()

    def stored(
        self,
        images: torch.Tensor,
        compute: Callable[[torch.Tensor], torch.Tensor],
        *,
        shape: tuple[int, int, int],
        kind: str = "",
    ) -> torch.Tensor:
        """Return `compute` of images (B, 3, H, W): what the store has is read, the rest computed and stored.

        Args:
            compute: maps images to float32 maps (B, *`shape`); called in float32, also in mixed precision.
            shape: (C, h, w).
            kind: names what is computed where that is not `forward`, in characters allowed in file names.
        """
        if self._store.folder is None:
            return compute(images)
        return self._through_store(images, compute, shape=shape, kind=kind)

    def _through_store(
        self,
        images: torch.Tensor,
        compute: Callable[[torch.Tensor], torch.Tensor],
        *,
        shape: tuple[int, ...],
        kind: str,
    ) -> torch.Tensor:
        keys, network = [_key(image) for image in images], self._identity + kind
        found = [self._store.get(network, key, shape=shape) for key in keys]
        missing = [index for index, maps in enumerate(found) if maps is None]
        if missing:
            with torch.autocast(images.device.type, enabled=False):
                computed = compute(images[missing].float()).cpu().numpy()
            for index, maps in zip(missing, computed, strict=True):
                self._store.put(network, keys[index], maps)
                found[index] = maps.astype(self._store.dtype)  # rounded, as later calls read it
        return torch.from_numpy(np.stack([maps for maps in found if maps is not None])).to(images.device).float()

    @classmethod
    @cache
    def keep_out_of_graphs(cls) -> None:
        """Let `torch.compile` call the store instead of tracing it.

        Not a decorator of `_through_store`: that would import the compiler with this package, seconds at every start.
        """
        cls._through_store = torch.compiler.disable(cls._through_store)  # type: ignore[method-assign]

    def _identify(self, weights: str | PathLike[str] | None) -> str:
        """Return the identifier of the extractor in the store, from its network and weights."""
        if self.stride is None:
            raise CvmError(f"the features of {self.path} have no whole stride and are not stored: drop feature_store")
        digest = hashlib.sha256(type(self.network).__name__.encode())
        if is_timm(self.path):
            digest.update(f"{self.path} {timm_version()}".encode())
        if is_imagenet(self.path):
            digest.update(SIZES[lite_name(self.path)].sha256.encode())
        for file in (None if is_name(self.path) else self.path, weights):
            if file is not None:
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:32]


def _network(path: str, weights: str | PathLike[str] | None, *, pretrained: bool) -> nn.Module:
    """Build the network that an extractor's file or name means."""
    if is_imagenet(path):
        return ImageNetExtractor(lite_name(path), pretrained=pretrained)
    if is_timm(path):
        return TimmExtractor(path.removeprefix(TIMM), weights, pretrained=pretrained)
    script: nn.Module = read_script(Path(path)) if is_script(Path(path)) else Layer3Map(Path(path))
    return script


class FrozenProbe(nn.Module):
    """Map (B, 3, H, W) to logits (B, out_channels, H, W) by a linear classifier of frozen features.

    Only the classifier learns: a 1x1 convolution of the feature vectors, each scaled to the length sqrt(C), so that
    only directions count, as in the cosine of Eq. 4. The logits are resampled bilinearly to the image.

    Args:
        extractor_path, extractor_weights, feature_store, pretrained: see `FrozenExtractor`; its weights are part of the
            state dict.

    Raises:
        CvmError: whatever `FrozenExtractor` finds, other images than RGB, or fewer than two classes.
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
        self.extractor = FrozenExtractor(
            extractor_path, weights=extractor_weights, store=feature_store, pretrained=pretrained
        )
        self.out = nn.Conv2d(self.extractor.channels, out_channels, kernel_size=1)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and the extractor's features (B, C, H, W), which take C floats per pixel."""
        found, size = self.extractor(x), self.output_shape(x.shape[-2], x.shape[-1])
        return self._classify(found, x), to_grid(found, image=x, size=size, multiple=self.extractor.grid)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._classify(self.extractor(x), x)

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width

    def _classify(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        logits = self.out(one_length(features))
        size = self.output_shape(x.shape[-2], x.shape[-1])
        return to_grid(logits.float(), image=x, size=size, multiple=self.extractor.grid)


def check_channels(in_channels: int, out_channels: int) -> None:
    """Raise CvmError for images that are not RGB, or for fewer than two classes."""
    if in_channels != 3:
        raise CvmError(f"in_channels must be 3 for a frozen extractor, not {in_channels}")
    if out_channels < 2:
        raise CvmError(f"out_channels must be at least 2 (background and target), not {out_channels}")


def one_length(features: torch.Tensor) -> torch.Tensor:
    """Scale every vector of C features in (B, C, h, w) to the length sqrt(C); a zero vector stays."""
    return functional.normalize(features, dim=1) * features.shape[1] ** 0.5


def to_grid(maps: torch.Tensor, *, image: torch.Tensor, size: tuple[int, int], multiple: int = GRID) -> torch.Tensor:
    """Resample maps (B, C, h, w) of the padded image to a grid of `size` over the unpadded image; bilinear.

    The border is repeated. Without padding the result is `interpolate(maps, size, mode="bilinear",
    align_corners=False)`.

    Args:
        multiple: to which the image was padded, see `pad_to_multiple`.
    """
    rows, columns = (side / (multiple * max(2, -(-side // multiple))) for side in image.shape[-2:])
    theta = maps.new_tensor([[columns, 0, columns - 1], [0, rows, rows - 1]])
    grid = functional.affine_grid(theta.expand(len(maps), 2, 3), [*maps.shape[:2], *size], align_corners=False)
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _key(image: torch.Tensor) -> str:
    """Return the identifier of an image (3, H, W) in the store: the hash of its pixels after all transforms."""
    pixels = image.detach().float().contiguous().cpu().numpy()
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.data).hexdigest()[:40]
