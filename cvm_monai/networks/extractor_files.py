"""Check what names a frozen extractor (a file or a name), make it absolute for records, and read it from a file."""

import os
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.networks.efficientnet_lite import imagenet_file
from cvm_monai.networks.encoder import ResNet34Encoder
from cvm_monai.networks.extractor_names import is_imagenet, is_name, is_timm, lite_name, timm_name
from cvm_monai.networks.timm_weights import pinned_name
from cvm_monai.networks.weights import load_encoder_weights

GIVE = "give its file, timm:NAME or imagenet, by --extractor_path"


def checked_extractor(path: str | PathLike[str] | None, weights: str | PathLike[str] | None = None) -> str:
    """Check the file or name of an extractor and return it as text; download published weights that the cache lacks.

    Raises:
        CvmError: neither a file nor a known name, weights of a name that are missing or cannot be downloaded, or
            `weights` for an extractor that has its own.
    """
    if path is None:
        raise CvmError(f"a frozen extractor is needed: {GIVE}")
    if isinstance(path, str) and is_imagenet(path):
        _check_no_weights(weights, f"{path} brings its own weights")
        imagenet_file(lite_name(path))
        return path
    if isinstance(path, str) and is_timm(path):
        if timm_name(path).pretrained:
            _check_no_weights(weights, f"{path} takes the published weights")
        found = pinned_name(path)
        if weights is not None and not Path(weights).is_file():
            raise CvmError(f"there are no weights of the extractor at {weights}: give a file by --extractor_weights")
        return found
    if not Path(path).is_file():
        raise CvmError(f"there is no frozen extractor at {path}: {GIVE}")
    _check_no_weights(weights, "the weights of an extractor from a file are in that file")
    return str(path)


def checked_encoder(path: str | PathLike[str] | None, weights: str | PathLike[str] | None = None) -> str:
    """Check the name of the encoder of `timm_unet` and return it as text.

    Raises:
        CvmError: not a name, or as `checked_extractor`.
    """
    if not is_name(path):
        raise CvmError(
            "the network 'timm_unet' needs an encoder by name: give imagenet, timm:NAME or timm:NAME@pretrained by "
            "--extractor_path" + ("" if path is None else f", not {path}")
        )
    return checked_extractor(path, weights)


def absolute_extractor(path: Any) -> Any:
    """Return an extractor, or its weights, as a record keeps them: a file as absolute path, a name as it is.

    A name that asks for published weights gets their revision. None stays None; a value that is not a path stays too,
    and the checks of knobs refuse it.
    """
    if is_name(path):
        return pinned_name(path) if is_timm(path) and timm_name(path).pretrained else path
    return os.path.abspath(path) if isinstance(path, str | PathLike) else path


def _check_no_weights(weights: str | PathLike[str] | None, reason: str) -> None:
    if weights is not None:
        raise CvmError(f"{reason}: drop --extractor_weights")


class Layer3Map(nn.Module):
    """ResNet34 up to layer 3 with weights from a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.encoder = ResNet34Encoder(3, with_layer4=False, normalisation="batch")
        try:
            load_encoder_weights(self, path)
        except ValueError as error:
            raise CvmError(f"{error}; a frozen extractor of another kind is saved as TorchScript") from error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[3]


def is_script(path: Path) -> bool:
    """Whether a file is TorchScript: unlike plain weights, also a zip file, it holds the constants of code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_script(path: Path) -> Any:
    """Read a network saved as TorchScript; CvmError where the file is no such thing."""
    try:
        return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise CvmError(
            f"{path} cannot be read as TorchScript: it is damaged, or saved by another version of torch"
        ) from error
