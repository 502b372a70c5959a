"""Read and write a trained network's weights: a plain state dict, or the same numbers as NumPy arrays."""

import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cvm_monai.errors import CvmError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of the running statistics that batch normalisation alone has."""


def load_weights(network: nn.Module, path: str | PathLike[str], *, device: torch.device | str = "cpu") -> nn.Module:
    """Load a plain state dict (`weights_only=True`) into a network; returns the network, in evaluation mode.

    A file that ends in `.npz` is one of `write_arrays`.

    Raises:
        CvmError: a missing file, one that is not a state dict, or the weights of another network.
    """
    path = Path(path)
    state = _read_state(path)
    expected = network.state_dict()
    unfit = sorted(key for key in expected if key not in state or state[key].shape != expected[key].shape)
    unfit += sorted(key for key in state if key not in expected)
    if unfit:
        _check_normalisation(expected, state, path)
        raise CvmError(
            f"the weights in {path} do not fit the network {type(network).__name__}: {len(unfit)} of them are missing, "
            f"of another shape or unknown, such as {unfit[0]}; give --network and --network_channels as in the training"
        )
    network.load_state_dict(state)
    return network.to(device).eval()


def _check_normalisation(expected: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> None:
    """Raise CvmError where weights and network differ in their running statistics alone."""
    different = [key for key in {*expected} ^ {*state} if key.rpartition(".")[2] not in STATISTICS]
    if different or any(state[key].shape != expected[key].shape for key in {*expected} & {*state}):
        return
    if len(state) > len(expected):
        raise CvmError(
            f"the weights in {path} were trained with --normalisation batch, and the network is built with another: "
            "give --normalisation batch"
        )
    raise CvmError(
        f"the weights in {path} were trained without running statistics, and the network is built with them: give "
        "--normalisation instance or group, as in the training"
    )


def write_arrays(weights: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Convert a plain state dict to `.npz`: arrays by name, which NumPy reads without pickle; the same bits.

    Raises:
        CvmError: a missing file, or one that is not a state dict.
    """
    arrays: dict[str, Any] = {name: value.numpy() for name, value in _read_state(Path(weights)).items()}
    np.savez(target, **arrays)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file by name."""
    if not path.is_file():
        raise CvmError(
            f"there is no trained network at {path}: run `python -m monai.bundle run training --config_file "
            "bundle/configs/train.yaml` first, or give the run folder of a training"
        )
    try:
        state: Any = _arrays(path) if path.suffix == ".npz" else _tensors(path)
    except Exception as error:  # a damaged file can raise nearly anything
        raise CvmError(f"{path} cannot be read as weights: it is damaged, or holds more than tensors") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CvmError(f"{path} is not a network's state dict: save network.state_dict() with torch.save")
    return state


def _tensors(path: Path) -> Any:
    with warnings.catch_warnings():  # the sentence above is enough for a damaged file
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(path, map_location="cpu", weights_only=True)


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
