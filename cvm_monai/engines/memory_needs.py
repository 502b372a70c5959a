"""Lower bounds on a run's memory, from sizes and settings alone, to refuse before the start what cannot fit.

Each bound counts only what is certainly held at the same time. Real use is higher; `cvm-monai doctor --dry_run`
measures it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cvm_monai.annotations import BACKGROUND, UNLABELLED, first_pairs, read_annotations
from cvm_monai.data.cache import cache_limit
from cvm_monai.data.datalist import Case, DataList
from cvm_monai.data.folds import split
from cvm_monai.errors import CvmError
from cvm_monai.free_memory import free_memory, gib
from cvm_monai.networks import build_network
from cvm_monai.networks.extractor_names import is_timm
from cvm_monai.slides import image_size
from cvm_monai.variational.grid import spacing_for
from cvm_monai.variational.representatives import MOST

RAW, PREPARED = 3, 12
"""Bytes per pixel of an image: as read (uint8), and as network input (float32)."""
MAPS = 2
"""Bytes per pixel of the label and the mask."""
FORWARD, BACKWARD = 64, 100
"""Minimum bytes that any network holds per output pixel, for inference and for training."""
NUMBER = 4
"""Bytes per element of a map or a weight."""
STRIDES: Mapping[str, int] = {"two_component": 16, "frozen_probe": 32, "centred_probe": 32, "frozen_two_component": 32}
"""Image pixels per output pixel, in each direction; for a frozen extractor the largest such value."""
BY_POINT = ("cvm", "contrast_map", "frozen_cvm")
"""Methods that hold one map per point, of the first `MOST` of a class."""
POINTS_OF_A_REGION = 5
HELD = 8
"""Images whose maps a renewal holds at the same time, at most."""
COPIES = 4
"""Copies of each weight in training: the weight, its gradient and Adam's two moments."""


@dataclass(frozen=True)
class Need:
    """A memory need: bytes, purpose, and the knobs that reduce it."""

    size: float
    what: str
    remedy: str


@dataclass(frozen=True)
class Sized:
    """A case with its working size: pixels, side lengths, and the number of target and other points used."""

    case_id: str
    pixels: float
    sides: str
    inside: int = 0
    outside: int = 0


def check_fits(needs: Iterable[Need], *, free: int | None, where: str = "") -> None:
    """Refuse a run whose memory needs exceed the free memory.

    Args:
        free: bytes; None: unknown, nothing is refused.
        where: suffix that names the memory, such as ` on the GPU`.

    Raises:
        CvmError: the sum of the needs exceeds `free`; the message names the largest need and its remedy.
    """
    found = sorted(needs, key=lambda need: need.size, reverse=True)
    total = sum(need.size for need in found)
    if free is not None and total > free:
        raise CvmError(
            f"this run needs at least {gib(total)} of memory{where} and {gib(free)} are free: {found[0].what} take "
            f"{gib(found[0].size)}; {found[0].remedy}"
        )


def check_training_memory(knobs: Mapping[str, Any], datalist: DataList, *, trains: bool = True) -> None:
    """Refuse a training whose images, maps, batches or network cannot fit into the free memory.

    Args:
        trains: False for an evaluation, which holds the test images only.

    Raises:
        CvmError: as `check_fits`.
    """
    parts = split(datalist, fold=knobs["fold"], seed=knobs["seed"])
    device = torch.device(knobs["device"])
    with_points = trains and knobs["supervision"] in BY_POINT
    seen = [
        sized(case, knobs, datalist.classes, points=with_points) for case in (parts.train if trains else parts.test)
    ]
    checked = [sized(case, knobs, datalist.classes) for case in parts.validation] if trains else seen
    held = _caches(seen if trains else [], checked, limit=cache_limit(knobs.get("cache"), free=free_memory()))
    computed = [_forward([*seen, *checked], knobs)]
    if trains:
        computed += [*_batch(knobs, len(seen)), *_maps(seen, knobs), *_weights(knobs)]
    check_fits(held, free=free_memory())
    if device.type == "cuda" and torch.cuda.is_available():
        check_fits(computed, free=torch.cuda.mem_get_info(device)[0], where=" on the GPU")
    else:
        check_fits([*held, *computed], free=free_memory())


def check_inference_memory(records: Iterable[Mapping[str, Any]], knobs: Mapping[str, Any]) -> None:
    """Refuse an image whose working size does not fit into the free memory.

    Args:
        records: {image, case_id?, mpp?}.
        knobs: with `scale` and `mpp`.

    Raises:
        CvmError: as `check_fits`, for the first such image.
    """
    free = free_memory()
    for record in records:
        height, width = image_size(record["image"])
        factor = knobs["scale"] if knobs["mpp"] is None else (record.get("mpp") or knobs["mpp"]) / knobs["mpp"]
        sides = f"{width * factor:.0f} x {height * factor:.0f} px"
        size = height * factor * width * factor * (RAW + PREPARED + NUMBER)
        remedy = f"{_size_remedy(knobs)}, or check the um/px of the image"
        check_fits([Need(size, f"the {sides} of {record['image']}", remedy)], free=free)


def sized(case: Case, knobs: Mapping[str, Any], classes: Mapping[str, int], *, points: bool = False) -> Sized:
    """Compute a case's working size from its image's header, and with `points` the number of points used."""
    height, width = image_size(case.image)
    factor = knobs["scale"] if knobs["mpp"] is None else (case.mpp or knobs["mpp"]) / knobs["mpp"]
    sides = f"{width * factor:.0f} x {height * factor:.0f} px"
    counts = _counts(case, knobs["pairs"], classes) if points else (0, 0)
    return Sized(case.case_id, height * factor * width * factor, sides, *counts)


def _counts(case: Case, pairs: int, classes: Mapping[str, int]) -> tuple[int, int]:
    """Count the foreground and background points used, including those of regions that are not too small."""
    if case.points is None:
        return 0, 0
    found = read_annotations(case.points, classes=classes)
    labels = [point.label for point in first_pairs(found.points, pairs)]
    labels += [
        region.label for region in found.regions if region.label != UNLABELLED for _ in range(POINTS_OF_A_REGION)
    ]
    outside = labels.count(BACKGROUND)
    return len(labels) - outside, outside


def _size_remedy(knobs: Mapping[str, Any]) -> str:
    return "lower --scale" if knobs["mpp"] is None else "raise --mpp"


def _caches(seen: Sequence[Sized], checked: Sequence[Sized], *, limit: float) -> list[Need]:
    """Cached images in main memory, as uint8; `cache` bounds them."""
    size = min(sum(case.pixels * (RAW + MAPS) for case in (*seen, *checked)), limit)
    count = len({case.case_id for case in (*seen, *checked)})
    largest = max((*seen, *checked), key=lambda case: case.pixels)
    what = f"{count} images of up to {largest.sides} ({largest.case_id})"
    return [Need(size, what, "lower --cache, or lower --scale (or raise --mpp)")]


def _forward(cases: Sequence[Sized], knobs: Mapping[str, Any]) -> Need:
    """Forward pass of the largest image as a whole."""
    largest = max(cases, key=lambda case: case.pixels)
    size = largest.pixels * PREPARED + _cells(largest.pixels, knobs) * FORWARD
    return Need(
        size, f"the {largest.sides} of case {largest.case_id} in the network", f"{_size_remedy(knobs)}, or cut it"
    )


def _batch(knobs: Mapping[str, Any], images: int) -> list[Need]:
    """Crops of one step and the activations of a micro-batch kept for its gradient; none if whole images are used."""
    if not knobs["crop_size"]:
        return []
    side, batch = knobs["crop_size"], knobs["batch_size"]
    held = min(batch * knobs["accumulation_steps"], images)
    size = side**2 * (held * (PREPARED + MAPS) + min(batch, images) * BACKWARD / _stride(knobs) ** 2)
    return (
        [Need(size, f"the crops of {side} x {side} px of a step", "lower --crop_size or --batch_size")] if side else []
    )


def _maps(seen: Sequence[Sized], knobs: Mapping[str, Any]) -> list[Need]:
    """Contrast maps of the image that has the most, and the evidence that a renewal holds at the same time."""
    both = [case for case in seen if case.inside and case.outside]
    if not both:
        return []

    def cells(case: Sized) -> float:
        found = _cells(case.pixels, knobs)
        return found / spacing_for((1, round(found)), knobs.get("solver_spacing")) ** 2

    def contrast(case: Sized) -> float:
        return cells(case) * NUMBER * (2 * min(case.inside, MOST) + min(case.outside, MOST))

    largest = max(both, key=contrast)
    least = sorted(cells(case) * NUMBER * min(case.inside, MOST) for case in both)[:HELD]
    size = contrast(largest) + (0 if knobs["combination"] == "max" else sum(least))
    what = f"the contrast maps of the {largest.inside} + {largest.outside} points of case {largest.case_id}"
    return [Need(size, what, f"lower --pairs, annotate by fewer points and regions, or {_size_remedy(knobs)}")]


def _weights(knobs: Mapping[str, Any]) -> list[Need]:
    """Weights with gradients and Adam moments, of a network that can be built without a file or timm (on meta)."""
    by_timm = knobs["network"] == "timm_unet" and is_timm(knobs.get("extractor_path"))
    if by_timm or (knobs["network"] in STRIDES and knobs["network"] != "two_component"):
        return []
    with torch.device("meta"):
        network = build_network(
            knobs["network"],
            out_channels=knobs["classes"],
            channels=knobs.get("network_channels") or None,
            extractor_path=knobs.get("extractor_path"),
            pretrained=False,
        )
    size = sum(weight.numel() for weight in network.parameters()) * NUMBER * COPIES
    return [Need(size, "the network, its gradients and Adam's moments", "lower --network_channels")]


def _stride(knobs: Mapping[str, Any]) -> int:
    return STRIDES.get(knobs["network"], 1)


def _cells(pixels: float, knobs: Mapping[str, Any]) -> float:
    return float(pixels) / _stride(knobs) ** 2
