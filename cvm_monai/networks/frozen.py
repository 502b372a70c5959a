"""A feature extractor that never changes, read from a local file, and a linear classifier of its features."""

import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks.blocks import pad_to_multiple
from cvm_monai.networks.encoder import ResNet34Encoder
from cvm_monai.networks.weights import load_encoder_weights

GRID = 32
"""What an extractor is given has sides that are multiples of this, and at least two."""


class FrozenExtractor(nn.Module):
    """(B, 3, H, W), normalised, to features (B, `channels`, h, w) of the padded image, without a gradient.

    The network stays in evaluation mode whatever `train` says. Images are padded as by `pad_to_multiple` with 32.

    Args:
        path: ResNet34 weights as `load_encoder_weights` takes them, of which layer 3 is used (256 channels at 1/16, the
            paper's extractor before any training); or any other network as TorchScript, (B, 3, H, W) float32 to
            (B, C, h, w) at any stride. A TorchScript file is a program that runs here: take files you trust only.

    Raises:
        ValueError: no path, no file there, one that is neither, or a network that does not fit that description.
    """

    channels: int

    def __init__(self, path: str | PathLike[str] | None) -> None:
        super().__init__()
        self.path = checked_path(path)
        self.network = _read_script(self.path) if _is_script(self.path) else _Layer3(self.path)
        self.requires_grad_(False)
        self.train(False)
        self.channels = self(torch.zeros(1, 3, 2 * GRID, 2 * GRID)).shape[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = pad_to_multiple(x, GRID)
        try:
            with torch.no_grad():
                features = self.network(padded)
        except RuntimeError as error:
            raise ValueError(
                f"the extractor {self.path} failed on an image of {tuple(padded.shape)}: it must take any sides that "
                f"are multiples of {GRID} from {2 * GRID} ({str(error).strip().splitlines()[-1]})"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 4 or len(features) != len(x):
            found = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise ValueError(f"the extractor {self.path} must give features (B, C, h, w), not {found}")
        return features.float()

    def on_grid(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Features of images (B, 3, H, W) on a grid of `size` over them, (B, `channels`, *size), bilinear."""
        return to_grid(self(x), image=x, size=size)

    def train(self, mode: bool = True) -> "FrozenExtractor":
        """Stay in evaluation mode: no batch's statistics may change the features."""
        del mode
        return super().train(False)


class FrozenProbe(nn.Module):
    """(B, 3, H, W) to logits (B, out_channels, H, W): a linear classifier of frozen features, all that learns.

    A 1x1 convolution of the feature vectors, each scaled to the length sqrt(C): what the cosine of Eq. 4 sees of them,
    whatever units an extractor has. The logits are resampled bilinearly to the image.

    Args:
        extractor_path: see `FrozenExtractor`; its weights are part of the state dict.

    Raises:
        ValueError: whatever `FrozenExtractor` finds, other images than RGB, or fewer than two classes.
    """

    stride = 1

    def __init__(
        self, in_channels: int = 3, out_channels: int = 2, *, extractor_path: str | PathLike[str] | None
    ) -> None:
        super().__init__()
        if in_channels != 3:
            raise ValueError(f"in_channels must be 3 for a frozen extractor, not {in_channels}")
        if out_channels < 2:
            raise ValueError(f"out_channels must be at least 2 (background and target), not {out_channels}")
        self.extractor = FrozenExtractor(extractor_path)
        self.out = nn.Conv2d(self.extractor.channels, out_channels, kernel_size=1)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, out_channels, H, W) and the extractor's features (B, C, H, W), which take C floats a pixel."""
        found, size = self.extractor(x), self.output_shape(x.shape[-2], x.shape[-1])
        return self._classify(found, x), to_grid(found, image=x, size=size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._classify(self.extractor(x), x)

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the logits for an input of that size: the same."""
        return height, width

    def _classify(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        logits = self.out(functional.normalize(features, dim=1) * features.shape[1] ** 0.5)
        return to_grid(logits.float(), image=x, size=self.output_shape(x.shape[-2], x.shape[-1]))


def to_grid(maps: torch.Tensor, *, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (B, C, h, w) of the padded image, on a grid of `size` over the image itself; bilinear, the border repeated.

    Where nothing was padded it is `interpolate(maps, size, mode="bilinear", align_corners=False)`.
    """
    rows, columns = (side / (GRID * max(2, -(-side // GRID))) for side in image.shape[-2:])
    theta = maps.new_tensor([[columns, 0, columns - 1], [0, rows, rows - 1]])
    grid = functional.affine_grid(theta.expand(len(maps), 2, 3), [*maps.shape[:2], *size], align_corners=False)
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def checked_path(path: str | PathLike[str] | None) -> Path:
    """The path of an extractor.

    Raises:
        ValueError: no path, or no file there.
    """
    if path is None:
        raise ValueError("a frozen extractor is needed: give its file by --extractor_path")
    if not Path(path).is_file():
        raise ValueError(f"there is no frozen extractor at {path}: give its file by --extractor_path")
    return Path(path)


class _Layer3(nn.Module):
    """ResNet34 up to layer 3 with weights from a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.encoder = ResNet34Encoder(3, with_layer4=False)
        try:
            load_encoder_weights(self, path)
        except ValueError as error:
            raise ValueError(f"{error}; a frozen extractor of another kind is saved as TorchScript") from error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[3]


def _is_script(path: Path) -> bool:
    """TorchScript and plain weights are both zip files; only the first holds code's constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_script(path: Path) -> Any:
    try:
        return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as TorchScript: it is damaged, or of another torch") from error
