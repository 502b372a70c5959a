"""The dense CRF regulariser of Tang et al. (ECCV 2018), with its bilateral kernel summed exactly.

    L_crf = -(1/B) sum_k s_k^T W s_k,      W_ij = exp(-|p_i - p_j|^2 / (2 sigma_xy^2) - |I_i - I_j|^2 / (2 sigma_rgb^2))

s_k is the probability of class k, p the pixel's position, I its colour (0 to 255). The self term i = j is included. As
the probabilities of a pixel sum to 1, it differs from Potts' sum_k s_k^T W (1 - s_k) by the constant sum_ij W_ij.

M. Tang, F. Perazzi, A. Djelouah, I. Ben Ayed, C. Schroers, Y. Boykov: On regularized losses for weakly-supervised CNN
segmentation, ECCV 2018. Its code sums over a permutohedral lattice, which gives about half of the exact sum.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.losses.checks import check_number, check_whole
from cvm_monai.losses.maps import at_least_float32

BLOCK_BYTES = 1 << 21
"""Bytes of a block of rows of W, the largest array held: small enough for the processor's cache."""
SMALLEST = -50.0
"""Lower bound of exponents: e^-50 is negligible beside the self term 1, and denormal numbers are slow on a CPU."""


def crf_regularisation(
    logits: Tensor, image: Tensor, *, grid: int = 64, sigma_xy: float = 25.0, sigma_rgb: float = 15.0
) -> Tensor:
    """L_crf on a reduced map, normalised by the number of pixels n and the neighbourhood size 2 pi sigma^2.

    The map is reduced to at most `grid` pixels a side (probabilities bilinear over each pixel's footprint, image by
    area), and sigma is sigma_xy in pixels of that grid (its neighbourhood at least one pixel). The result lies between
    0 and about -1, its value far from borders for a certain and constant segmentation of one colour, and hardly depends
    on resolution, grid or crop. The reference's weight w of the plain sum equals w n 2 pi sigma^2 here: 2e-9 on
    257 x 257 pixels with sigma 50 (100 px at half size) is 2.1; half of it, as the sum is exact, is 1.

    Args:
        logits: (B, C, h, w); half precision is computed in float32.
        image: (B, 3, H, W), RGB from 0 to 255, of the same field of view.
        grid: raising it respects finer structure, at a cost that grows with its fourth power; 32 to 96.
        sigma_xy: range in image pixels; raising it couples pixels further apart; 5 to 100. The reference's 100 is
            a fifth of its crop's side.
        sigma_rgb: raising it ties pixels of less similar colours; 5 to 50.

    Raises:
        CvmError: shapes that do not match, or a constant out of its range.
    """
    check_whole("grid", grid, low=2)
    check_number("sigma_xy", sigma_xy, above=True)
    if logits.ndim != 4:
        raise CvmError(f"logits must be (B, C, H, W), not {tuple(logits.shape)}")
    height, width = logits.shape[-2:]
    factor = min(1.0, grid / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    small = functional.interpolate(at_least_float32(image), size=size, mode="area")
    pixels = size[0] * size[1]
    sigma = sigma_xy * math.sqrt(pixels / (image.shape[-2] * image.shape[-1]))
    loss = dense_crf(
        _reduced(at_least_float32(logits).softmax(dim=1), size), small, sigma_xy=sigma, sigma_rgb=sigma_rgb
    )
    return loss / (pixels * max(1.0, 2 * math.pi * sigma**2))


def dense_crf(probabilities: Tensor, image: Tensor, *, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """L_crf at the maps' own size, not normalised; its gradient is -(2/B) W s (first derivatives only).

    Args:
        probabilities: s, (B, C, H, W).
        image: (B, 3, H, W), 0 to 255; no gradient flows into it.
        sigma_xy: in pixels of these maps.
        sigma_rgb: see `crf_regularisation`.

    Raises:
        CvmError: shapes that do not match, or a sigma that is not positive.
    """
    affinity = bilateral_sum(probabilities, image, sigma_xy=sigma_xy, sigma_rgb=sigma_rgb)
    total = (probabilities * affinity).sum()
    # W is symmetric: with W s held constant, twice this product has the gradient of s^T W s, and W need not be kept.
    return -(2 * total - total.detach()) / len(probabilities)


@torch.no_grad()
def bilateral_sum(values: Tensor, image: Tensor, *, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """W applied to each channel of `values` (B, C, H, W), exactly: O((H W)^2) work, W held a block of rows at a time.

    Raises:
        CvmError: as `dense_crf`.
    """
    check_number("sigma_xy", sigma_xy, above=True)
    check_number("sigma_rgb", sigma_rgb, above=True)
    batch, _, height, width = values.shape
    if tuple(image.shape) != (batch, 3, height, width):
        raise CvmError(f"image must be {(batch, 3, height, width)} to go with the map, got {tuple(image.shape)}")
    axes = (torch.arange(length, device=values.device, dtype=values.dtype) for length in (height, width))
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1) / sigma_xy  # (2, N)
    rows = max(1, BLOCK_BYTES // (height * width * values.element_size()))
    with torch.autocast(values.device.type, enabled=False):
        colours = image.to(values.dtype).flatten(2) / sigma_rgb  # (B, 3, N)
        sums = [
            _sum_one(own.T, torch.cat([places, colour]).T, rows)
            for own, colour in zip(values.flatten(2), colours, strict=True)
        ]
    return torch.stack(sums).mT.reshape(values.shape)


def _sum_one(values: Tensor, vectors: Tensor, rows: int) -> Tensor:
    """sum_j exp(-|v_i - v_j|^2 / 2) s_j of one image: values (N, C), vectors (N, 5), some rows of W at a time."""
    return torch.cat([_kernel(part, vectors) @ values for part in vectors.split(rows)])


def _kernel(part: Tensor, vectors: Tensor) -> Tensor:
    """exp(-|v_i - v_j|^2 / 2); differences are squared after subtraction, which stays accurate for near pixels."""
    distance = torch.cdist(part, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square_().mul_(-0.5).clamp_(min=SMALLEST).exp_()


def _reduced(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear reduction over each pixel's footprint as two matrix products, whose gradient is deterministic."""
    down, along = (
        functional.interpolate(
            torch.eye(old, device=maps.device, dtype=maps.dtype)[None, None],
            (new, old),
            mode="bilinear",
            antialias=True,
        )[0, 0]
        for old, new in zip(maps.shape[-2:], size, strict=True)
    )
    with torch.autocast(maps.device.type, enabled=False):
        return down @ maps @ along.T
