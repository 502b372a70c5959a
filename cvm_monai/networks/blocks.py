"""Building blocks of the networks: convolutions, padding to a multiple of the stride, a second decoder, checks."""

import copy
from collections.abc import Sequence
from math import gcd
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from cvm_monai.errors import CvmError
from cvm_monai.knobs import Normalisation
from cvm_monai.networks.normalisation import GROUPS, check_normalisation


def norm_layer(kind: Normalisation, channels: int) -> nn.Module:
    """A normalisation of (B, channels, H, W) with a learnt scale and shift for each channel."""
    check_normalisation(kind)
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(gcd(GROUPS, channels), channels)


def replace_batch_norms(module: nn.Module, kind: Normalisation) -> None:
    """Replace every batch normalisation by the chosen normalisation, with the same scale and shift."""
    if kind == "batch":
        return
    for name, part in list(module.named_children()):
        if isinstance(part, nn.BatchNorm2d):
            layer: Any = norm_layer(kind, part.num_features)
            layer.load_state_dict({"weight": part.weight.detach(), "bias": part.bias.detach()})
            layer.eps = part.eps
            setattr(module, name, layer)
        else:
            replace_batch_norms(part, kind)


class DoubleConv(nn.Sequential):
    """(3x3 convolution, normalisation, ReLU) twice, (B, in_channels, H, W) to (B, out_channels, H, W).

    The convolutions start from Kaiming's normal distribution (PyTorch's default shrinks the signal at each ReLU).

    Args:
        bias: biases in the convolutions, which a normalisation of each channel cancels; the paper's U-Net has them.
        normalisation: see `Normalisation`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, normalisation: Normalisation) -> None:
        layers: list[nn.Module] = []
        for width in (in_channels, out_channels):
            convolution = nn.Conv2d(width, out_channels, kernel_size=3, padding=1, bias=bias)
            _start_convolution(convolution)
            layers += [convolution, norm_layer(normalisation, out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)

    def reset_parameters(self) -> None:
        """Initialise its convolutions and normalisations again."""
        for layer in self:
            reset: Any = getattr(layer, "reset_parameters", None)
            if isinstance(layer, nn.Conv2d):
                _start_convolution(layer)
            elif reset is not None:
                reset()


def _start_convolution(convolution: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def keep_statistics(module: nn.Module) -> None:
    """Put every batch normalisation in evaluation mode: it uses its running statistics and does not update them."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def without_encoder(network: nn.Module, *, encoder_parts: Sequence[str]) -> nn.Module:
    """Copy `network` with fresh weights and without the named parts of its encoder; the copy can only `decode`."""
    memo = {id(getattr(network, name)): nn.Identity() for name in encoder_parts}
    decoder = copy.deepcopy(network, memo)
    for module in reversed(list(decoder.modules())):  # children before parents: DoubleConv has its own initialisation
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return decoder


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (B, C, H, W) by its last row and column to sides that are multiples of `multiple`, at least 2 * `multiple`.

    At least two multiples, because no normalisation can train on the single pixel that one would leave at the
    coarsest level. Only integer arithmetic on the sizes is used, which scripting, tracing and both ONNX exporters keep
    dynamic.
    """
    rows = (x.shape[-2] + multiple - 1) // multiple
    columns = (x.shape[-1] + multiple - 1) // multiple
    # 2 // (n + 1) is 1 where n is 1, else 0. (Not 1 // n: onnxruntime fuses (1 / n) * m into m / n, for integers too.)
    height = (rows + 2 // (rows + 1)) * multiple
    width = (columns + 2 // (columns + 1)) * multiple
    return functional.pad(x, [0, width - x.shape[-1], 0, height - x.shape[-2]], mode="replicate")


def check_widths(channels: Sequence[int], *, in_channels: int, out_channels: int, name: str) -> tuple[int, ...]:
    """Check five widths and return them as a tuple.

    Raises:
        CvmError: not five positive widths, no input channel, or fewer than two classes.
    """
    widths = tuple(channels)
    if len(widths) != 5 or min(widths) < 1:
        raise CvmError(f"{name} must be five positive widths, not {list(widths)}")
    if in_channels < 1:
        raise CvmError(f"in_channels must be at least 1, not {in_channels}")
    if out_channels < 2:
        raise CvmError(f"out_channels must be at least 2 (background and target), not {out_channels}")
    return widths
