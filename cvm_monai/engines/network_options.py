"""The network as it trains: on its device, in its order of memory, compiled, its normalisation joined."""

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
    """Make a network ready to train; it stays the same object with the same names of weights.

    Args:
        device: where to.
        channels_last: hold weights and maps pixel by pixel, as tensor cores read them: often faster on a GPU with mixed
            precision, seldom on a CPU. Results differ by rounding.
        compile: translate `forward` when it is first called, once for each shape of images: worth its minutes in a long
            training on a GPU. `network.features`, which renewals call, is not compiled.
        sync_batchnorm: normalise by the statistics of the batches of all processes, on GPUs: for few images in each
            process. Without effect in a lone process.
        backend: of `torch.compile`; `eager` translates nothing, for tests.

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
    """CvmError for a device on which batches cannot be normalised together."""
    if torch.device(device).type != "cuda":
        raise CvmError(f"--sync_batchnorm True needs GPUs, and the device is {device}: leave it out")


def check_compiler(device: torch.device | str) -> None:
    """CvmError where torch.compile would miss what it translates with: a C++ compiler, and Triton on a GPU."""
    if not any(map(shutil.which, [os.environ.get("CXX", ""), *COMPILERS])):
        raise CvmError(
            "--compile True needs a C++ compiler, and there is none on the path: install g++, or leave it out"
        )
    if torch.device(device).type == "cuda" and importlib.util.find_spec("triton") is None:
        raise CvmError("--compile True needs the package triton on a GPU: install it, or leave it out")
