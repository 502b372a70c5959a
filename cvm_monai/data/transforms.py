"""MONAI dictionary transforms from a case's record to the network's input.

The image lives on its own grid; label, mask and pseudo-label live on the map grid of the network's output, which is
`stride` times coarser. Value 255 of a label or a mask, and -1 of a pseudo-label, mean unknown.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, RandomizableTrait, Transform
from PIL import Image

from cvm_monai.annotations import (
    BACKGROUND,
    TARGET,
    UNLABELLED,
    Annotations,
    first_pairs,
    rasterise_points,
    read_annotations,
    seed_points,
)
from cvm_monai.annotations.raster import points_to_pixels
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.errors import CvmError
from cvm_monai.slides import read_image, read_mask
from cvm_monai.variational.grid import on_full_grid

Item = dict[Hashable, Any]

NO_PSEUDO_LABEL = -1.0
FILL: Mapping[str, float] = {"label": UNLABELLED, "mask": UNLABELLED, "pseudo_label": NO_PSEUDO_LABEL}
"""The maps of an item, and their fill values where a crop extends beyond the image."""


class LoadCased(Transform):
    """Read a record's image, points and mask: the deterministic part, which may be cached.

    In: {case_id, image, points?, mask?, mpp?} with paths, or {image, label} with the points as label.
    Out: case_id; `image` uint8 (3, H, W) at the working resolution; `label` uint8 (1, h, w), rasterised points (as
    squares) and regions; `mask` uint8 (1, h, w), 255 where there is none; `in_points`, `out_points` int64 (N, 2)
    (row, column) on the map, of all foreground classes and of the background; `in_labels` int64 (N,), the classes of
    `in_points`; `image_shape` and `full_shape`, the working and the file's own (height, width). If the record has
    `classes` (more than two), label and mask hold their numbers.

    Args:
        scale: working size / file size; ignored where `mpp` is given. 0.25 turns 20x into 5x.
        mpp: working micrometres per pixel; each record must then have its own.
        pairs: number of points used of each class, the first ones; raising it gives more supervision.
        point_size: side of the square of each point, in map pixels, odd; 1 to 7.
        stride: image pixels per map pixel, the network's.
        seed: seed of the interior points sampled from annotated regions.
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        mpp: float | None = None,
        pairs: int = 5,
        point_size: int = 3,
        stride: int = 1,
        seed: int = 0,
    ) -> None:
        for name, value in (("scale", scale), ("mpp", mpp)):
            if value is not None and not value > 0:
                raise CvmError(f"{name} must be greater than 0, got {value!r}")
        self.scale, self.mpp, self.pairs = scale, mpp, pairs
        self.point_size, self.stride, self.seed = point_size, stride, seed

    def __call__(self, record: Mapping[Hashable, Any]) -> Item:
        record = _as_case(record)
        image = read_image(record["image"])
        full = (int(image.shape[0]), int(image.shape[1]))
        factor = self._factor(record)
        shape = (max(1, round(full[0] * factor)), max(1, round(full[1] * factor)))
        grid = (-(-shape[0] // self.stride), -(-shape[1] // self.stride))
        annotations, classes = self._annotations(record), len(record.get("classes") or ()) or 2
        try:
            label = rasterise_points(annotations, image_shape=full, map_shape=grid, size=self.point_size)
            pixels, labels = labelled_pixels(annotations, image_shape=full, map_shape=grid, seed=self.seed)
        except ValueError as error:
            raise CvmError(f"case {record['case_id']}: {error}") from error
        return {
            "case_id": record["case_id"],
            "image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(resize_image(image, shape), -1, 0))),
            "label": torch.from_numpy(label)[None],
            "mask": torch.from_numpy(load_mask(record.get("mask"), grid, classes=classes))[None],
            "in_points": pixels[_foreground(labels)],
            "out_points": pixels[labels == BACKGROUND],
            "in_labels": labels[_foreground(labels)],
            "image_shape": shape,
            "full_shape": full,
        }

    def _factor(self, record: Mapping[Hashable, Any]) -> float:
        if self.mpp is None:
            return self.scale
        if not record.get("mpp"):
            raise CvmError(
                f"case {record['case_id']} has no um/px: add a column mpp to cases.csv and prepare again, "
                "or use --scale"
            )
        return float(record["mpp"]) / self.mpp

    def _annotations(self, record: Mapping[Hashable, Any]) -> Annotations:
        if not record.get("points"):
            return Annotations(())
        annotations = read_annotations(record["points"], classes=record.get("classes"))
        points = tuple(first_pairs(annotations.points, self.pairs))
        return Annotations(points=points, regions=annotations.regions, counts=annotations.counts)


def resize_image(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a uint8 (H, W, 3) image to `shape` bilinearly, with antialiasing when shrinking."""
    if image.shape[:2] == shape:
        return image
    return np.array(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))


def load_mask(path: str | None, grid: tuple[int, int], *, classes: int = 2) -> np.ndarray:
    """Read a mask on the map grid by nearest pixel, uint8: 0 background, 1 target; all 255 if there is no file.

    With more than two classes: their numbers, as `class_labels`.
    """
    if not path:
        return np.full(grid, UNLABELLED, dtype=np.uint8)
    labels = class_labels(path, classes=classes)
    return np.array(Image.fromarray(labels).resize(grid[::-1], Image.Resampling.NEAREST))


def class_labels(path: str, *, classes: int = 2) -> np.ndarray:
    """Read a mask file as class numbers, (H, W) uint8: with two classes 0 is background and anything else target.

    With more classes, value c is class c and 255 is unlabelled.

    Raises:
        CvmError: a value that is not a class, or as `read_mask`.
    """
    mask = read_mask(path)
    if classes == 2:
        return (mask != 0).astype(np.uint8)
    wrong = (mask < 0) | ((mask >= classes) & (mask != UNLABELLED))
    if wrong.any():
        raise CvmError(f"{path}: the value {int(mask[wrong][0])} is none of the {classes} classes: prepare again")
    return mask.astype(np.uint8)


def _as_case(record: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
    """Convert MONAI Label's record {image, label} to a case record: the label is the file of points."""
    if "case_id" in record:
        return record
    return {"case_id": Path(str(record["image"])).stem, "points": record.get("label"), **record}


def _foreground(labels: np.ndarray) -> np.ndarray:
    return (labels != BACKGROUND) & (labels != UNLABELLED)


def map_points(
    annotations: Annotations, *, image_shape: tuple[int, int], map_shape: tuple[int, int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return in-target and out-of-target points as (row, column) on the map, see `labelled_pixels`.

    Example:
        >>> import cvm_monai as cvm
        >>> clicks = cvm.Annotations(points=(cvm.Point(40.5, 20.5, label=1), cvm.Point(10.5, 60.5, label=0)))
        >>> inside, outside = cvm.map_points(clicks, image_shape=(64, 64), map_shape=(32, 32))
        >>> inside.tolist(), outside.tolist()
        ([[10, 20]], [[30, 5]])
    """
    pixels, labels = labelled_pixels(annotations, image_shape=image_shape, map_shape=map_shape, seed=seed)
    return pixels[labels == TARGET], pixels[labels == BACKGROUND]


def labelled_pixels(
    annotations: Annotations, *, image_shape: tuple[int, int], map_shape: tuple[int, int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Map points to (row, column) = floor(coordinate * map / image), int64 (N, 2), and their labels, (N,).

    A region gives a few seeded interior points, where no region of another class covers it; those of an exclusion have
    the label 255.
    """
    points = (*annotations.points, *seed_points(annotations, seed=seed, image_shape=image_shape))
    pixels = points_to_pixels(points, image_shape=image_shape, map_shape=map_shape)
    return pixels, np.array([point.label for point in points], dtype=np.int64)


class JoinPseudoLabeld(Transform, RandomizableTrait):
    """Add the case's current pseudo-label as `pseudo_label` float32, -1 where it has none.

    (1, h, w), the target's, with two classes; (C, h, w) with more. It changes with each renewal, and is therefore
    marked as random so that it is not cached. One that was solved on a coarser grid is resampled.

    Args:
        classes: C, including background.
    """

    def __init__(self, store: PseudoLabelStore, *, classes: int = 2) -> None:
        self.store, self.channels = store, 1 if classes == 2 else classes

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        shape = (self.channels, *item["label"].shape[1:])
        found = self.store.get(item["case_id"])
        full = None if found is None else on_full_grid(found, shape[1:])
        if full is None or full.size != np.prod(shape):
            label = torch.full(shape, NO_PSEUDO_LABEL)
        else:
            label = torch.from_numpy(full).reshape(shape)
        return {**item, "pseudo_label": label}


class RandCropToPointsd(Randomizable, Transform):
    """Crop image and maps alike to a square with at least one annotated pixel, padding small images.

    Args:
        size: side in image pixels, a multiple of `stride`; 0 keeps the image whole (then batches hold one image).
            Raising it gives more context and takes more memory; 64 to 1024.
        stride: image pixels per map pixel.
    """

    def __init__(self, *, size: int, stride: int = 1) -> None:
        if size < 0 or (size and size < 64) or size % stride:
            raise CvmError(f"crop_size must be 0 or a multiple of {stride} from 64 px, got {size!r}")
        self.size, self.stride = size, stride

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        if not self.size:
            return dict(item)
        maps = [key for key in FILL if key in item]
        side = self.size // self.stride
        cropped = dict(item)
        top, left = self._corner(item["label"][0], side)
        for key in maps:
            cropped[key] = _window(item[key], top, left, side, fill=FILL[key])
        cropped["image"] = _window(item["image"], top * self.stride, left * self.stride, self.size, fill=None)
        return cropped

    def _corner(self, label: torch.Tensor, side: int) -> tuple[int, int]:
        annotated = torch.nonzero(label != UNLABELLED)
        anchor = annotated[self.R.randint(len(annotated))].tolist() if len(annotated) else None
        corner = []
        for axis, length in enumerate(label.shape):
            low, high = 0, max(0, length - side)
            if anchor is not None:
                low, high = max(low, anchor[axis] - side + 1), min(high, anchor[axis])
            corner.append(int(self.R.randint(low, high + 1)))
        return corner[0], corner[1]


def _window(data: torch.Tensor, top: int, left: int, side: int, *, fill: float | None) -> torch.Tensor:
    """Crop a square of (C, H, W); beyond the far border is `fill`, or the repeated border where `fill` is None."""
    part = data[:, top : top + side, left : left + side]
    if part.shape[1] == side and part.shape[2] == side:
        return part
    if fill is None:
        rows = torch.arange(side).clamp(max=part.shape[1] - 1)
        columns = torch.arange(side).clamp(max=part.shape[2] - 1)
        return part[:, rows][:, :, columns]
    full = torch.full((part.shape[0], side, side), fill, dtype=part.dtype)
    full[:, : part.shape[1], : part.shape[2]] = part
    return full


class RandColourJitterd(Randomizable, Transform):
    """Change brightness, contrast and saturation of an RGB image in [0, 1] by random factors in [1 - a, 1 + a].

    Args:
        keys: entries to change, all by the same factors.
        amount: a; raising it makes the network less dependent on stain; 0 to 0.8.
    """

    def __init__(self, *, keys: Sequence[str] = ("image",), amount: float = 0.4) -> None:
        if not 0 <= amount < 1:
            raise CvmError(f"amount must lie in [0, 1), got {amount!r}")
        self.keys, self.amount = tuple(keys), amount

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        brightness, contrast, saturation = self.R.uniform(1 - self.amount, 1 + self.amount, 3)
        weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
        changed = dict(item)
        for key in self.keys:
            image = item[key] * brightness
            image = image.clamp(0, 1)
            image = (image - (image * weights).sum(0).mean()) * contrast + (image * weights).sum(0).mean()
            image = image.clamp(0, 1)
            grey = (image * weights).sum(0, keepdim=True)
            changed[key] = ((image - grey) * saturation + grey).clamp(0, 1)
        return changed
