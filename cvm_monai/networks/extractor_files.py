"""What a frozen extractor is given by: checked, kept in a record, and read from a file."""

import os
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.networks.encoder import ResNet34Encoder
from cvm_monai.networks.timm_extractor import checked_name, is_timm
from cvm_monai.networks.weights import load_encoder_weights


def checked_extractor(path: str | PathLike[str] | None, weights: str | PathLike[str] | None = None) -> str:
    """The file of an extractor, or `timm:NAME`, as text.

    Raises:
        ValueError: neither, no file there, a name that timm does not know, or `weights` for something else than a name.
    """
    if path is None:
        raise ValueError("a frozen extractor is needed: give its file, or timm:NAME, by --extractor_path")
    if isinstance(path, str) and is_timm(path):
        checked_name(path)
        if weights is not None and not Path(weights).is_file():
            raise ValueError(f"there are no weights of the extractor at {weights}: give a file by --extractor_weights")
        return path
    if not Path(path).is_file():
        raise ValueError(f"there is no frozen extractor at {path}: give its file, or timm:NAME, by --extractor_path")
    if weights is not None:
        raise ValueError("the weights of an extractor from a file are in that file: drop --extractor_weights")
    return str(path)


def absolute_extractor(path: Any) -> Any:
    """What a record keeps of an extractor, or of its weights: the file from the root on, or a name as it is.

    None, there is none, stays None; so does what is no path, for the checks of knobs to refuse.
    """
    file = isinstance(path, str | PathLike) and not (isinstance(path, str) and is_timm(path))
    return os.path.abspath(path) if file else path


class Layer3Map(nn.Module):
    """ResNet34 up to layer 3 with weights from a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.encoder = ResNet34Encoder(3, with_layer4=False, normalisation="batch")
        try:
            load_encoder_weights(self, path)
        except ValueError as error:
            raise ValueError(f"{error}; a frozen extractor of another kind is saved as TorchScript") from error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[3]


def is_script(path: Path) -> bool:
    """TorchScript and plain weights are both zip files; only the first holds code's constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_script(path: Path) -> Any:
    try:
        return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as TorchScript: it is damaged, or of another torch") from error
