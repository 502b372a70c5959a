"""What the networks share: a pair of convolutions, padding to a size that halves evenly, the check of arguments."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class DoubleConv(nn.Sequential):
    """(3x3 convolution, batch normalisation, ReLU) twice, (B, in_channels, H, W) to (B, out_channels, H, W).

    The convolutions start from Kaiming's normal distribution (PyTorch's default shrinks the signal at each ReLU).

    Args:
        bias: biases in the convolutions, which the normalisation after them cancels; the paper's U-Net has them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        layers: list[nn.Module] = []
        for width in (in_channels, out_channels):
            convolution = nn.Conv2d(width, out_channels, kernel_size=3, padding=1, bias=bias)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples of `multiple`, and at least two.

    Two, because batch normalisation cannot train on the one pixel that a single multiple would leave at the coarsest
    level. Only integer arithmetic on the sizes is used, which scripting, tracing and both ONNX exporters keep dynamic.
    """
    rows = (x.shape[-2] + multiple - 1) // multiple
    columns = (x.shape[-1] + multiple - 1) // multiple
    # 2 // (n + 1) is 1 where n is 1, else 0. (Not 1 // n: onnxruntime fuses (1 / n) * m into m / n, for integers too.)
    height = (rows + 2 // (rows + 1)) * multiple
    width = (columns + 2 // (columns + 1)) * multiple
    return functional.pad(x, [0, width - x.shape[-1], 0, height - x.shape[-2]], mode="replicate")


def check_widths(channels: Sequence[int], *, in_channels: int, out_channels: int, name: str) -> tuple[int, ...]:
    """Five positive widths as a tuple.

    Raises:
        ValueError: not five positive widths, no input channel, or fewer than two classes.
    """
    widths = tuple(channels)
    if len(widths) != 5 or min(widths) < 1:
        raise ValueError(f"{name} must be five positive widths, not {list(widths)}")
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, not {in_channels}")
    if out_channels < 2:
        raise ValueError(f"out_channels must be at least 2 (background and target), not {out_channels}")
    return widths
