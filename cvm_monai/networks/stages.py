"""Join maps of one image at several strides into one map of features."""

from collections.abc import Sequence

import torch
from torch.nn import functional


def join_stages(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join maps (B, C_i, h_i, w_i), the finest first, into (B, sum C_i, h_0, w_0).

    Every vector of each map is scaled to length one, so that a stage of many channels, or of large values, weighs no
    more in a cosine than the others; a zero vector stays. Then each is resampled bilinearly to the grid of the finest.
    Centre the maps (subtract a mean from each channel) before this.
    """
    scaled = [functional.normalize(found.float(), dim=1) for found in maps]
    size = scaled[0].shape[-2:]
    rest = [functional.interpolate(found, size, mode="bilinear", align_corners=False) for found in scaled[1:]]
    return torch.cat([scaled[0], *rest], dim=1)
