"""How the contrast maps of an image's in-target points become one segmentation."""

from typing import Literal, get_args

from torch import Tensor

Combination = Literal["mean", "max"]
"""`mean`: every point's map is segmented and the results are averaged (Eq. 7). `max`: the largest contrast of any point
is segmented: for targets of several kinds of tissue (epithelium, lumen and mucus of a gland), of which each point
speaks for its own only and the mean calls none of them target. Not in the paper."""


def check_combination(combination: str) -> None:
    """ValueError for an unknown name."""
    if combination not in get_args(Combination):
        raise ValueError(f"combination must be one of {', '.join(get_args(Combination))}, got {combination!r}")


def combined(maps: Tensor, combination: Combination) -> Tensor:
    """(P, h, w) contrast maps z_p, or, for `max`, their largest value at each pixel, (1, h, w)."""
    return maps.amax(dim=0, keepdim=True) if combination == "max" else maps
