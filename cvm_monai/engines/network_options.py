"""Prepare a network for training: device, memory format, compilation, synchronised batch normalisation."""

import importlib.util
import os
import shutil

import ignite.distributed as idist
import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.networks.frozen import FrozenExtractor

COMPILERS = ("g++", "clang++", "c++", "cl")


def training_network(
    network: nn.Module,
    *,
    device: torch.device | str,
    channels_last: bool = False,
    compile: bool = False,
    sync_batchnorm: bool = False,
    backend: str = "inductor",
) -> nn.Module:
    """Prepare a network for training; returns the same object with the same weight names.

    Args:
        device: target device.
        channels_last: use the channels-last memory format for weights and maps: often faster on a GPU with mixed
            precision, seldom on a CPU. Results differ by rounding.
        compile: compile `forward` at its first call, once per image shape; worth the minutes in a long training on a
            GPU. `network.features`, which renewals call, is not compiled.
        sync_batchnorm: normalise by the batch statistics of all processes, on GPUs: for few images per process. No
            effect in a single process.
        backend: of `torch.compile`; `eager` compiles nothing, for tests.

    Raises:
        CvmError: `sync_batchnorm` in several processes without GPUs.
    """
    if sync_batchnorm and idist.get_world_size() > 1:
        check_sync_batchnorm(device)
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network = network.to(device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        FrozenExtractor.keep_out_of_graphs()
        network.compile(backend=backend, dynamic=None)
    return network


def check_sync_batchnorm(device: torch.device | str) -> None:
    """Raise CvmError for a device that does not support synchronised batch normalisation."""
    if torch.device(device).type != "cuda":
        raise CvmError(f"--sync_batchnorm True needs GPUs, and the device is {device}: leave it out")


def check_compiler(device: torch.device | str) -> None:
    """Raise CvmError if torch.compile lacks its tools: a C++ compiler, and Triton on a GPU."""
    if not any(map(shutil.which, [os.environ.get("CXX", ""), *COMPILERS])):
        raise CvmError(
            "--compile True needs a C++ compiler, and there is none on the path: install g++, or leave it out"
        )
    if torch.device(device).type == "cuda" and importlib.util.find_spec("triton") is None:
        raise CvmError("--compile True needs the package triton on a GPU: install it, or leave it out")
