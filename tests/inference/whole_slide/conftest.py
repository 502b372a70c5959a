"""Networks with known answers, and slides whose pixels say where they lie."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from cvm_monai.inference.whole_slide import SlideModel

PLAIN = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
"""No normalisation: the network sees intensity / 255."""


class Red(nn.Module):
    """The probability of the target is the pixel's red value: its logit."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = x[:, :1].clamp(1e-6, 1 - 1e-6)
        return torch.cat([torch.zeros_like(p), self.strength * torch.log(p / (1 - p))], dim=1)


class Shares(nn.Module):
    """Three classes: the probability of each is its channel's part of the pixel's light."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x.clamp_min(1e-6))


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the overlay out, which takes longest, where only the numbers are looked at."""
    from cvm_monai.inference.whole_slide import results

    monkeypatch.setattr(results, "_write_overlay", lambda *arguments, **options: None)


@pytest.fixture
def red() -> SlideModel:
    return SlideModel(Red().eval(), mpp=0.5, **PLAIN)


@pytest.fixture
def shares() -> SlideModel:
    return SlideModel(Shares().eval(), mpp=0.5, names=("background", "target", "class 2"), **PLAIN)


def pixels(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 noise, coloured as tissue is."""
    image = np.random.default_rng(seed).integers(1, 255, (height, width, 3), dtype=np.uint8)
    image[..., 1] //= 2
    return image


def write_slide(path: Path, image: np.ndarray, *, mpp: float | None = 0.5) -> Path:
    """A lossless tiled TIFF with or without um/px."""
    extra = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, tile=(256, 256), compression="zlib", photometric="rgb", metadata=None, **extra)
    return path
