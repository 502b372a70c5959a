"""Write the tiles of a planned slide: images, annotations in the tiles' own pixels, masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cvm_monai.annotations import (
    TARGET,
    UNLABELLED,
    Annotations,
    Point,
    Region,
    rasterise_regions,
    write_geojson,
)
from cvm_monai.annotations.labels import ClassMap, class_names
from cvm_monai.annotations.model import Colour
from cvm_monai.data.check import binary_mask, class_mask
from cvm_monai.data.clip import RegionIndex
from cvm_monai.data.output import write_png
from cvm_monai.data.slide_plan import CutSettings, SlidePlan, opened_slide
from cvm_monai.data.tiles import Tile
from cvm_monai.errors import CvmError
from cvm_monai.slides import read_mask

MaskMaker = Callable[[Tile, Callable[[], tuple[Region, ...]]], np.ndarray]
"""Makes a tile's mask from the tile and a function that returns its clipped regions."""

SHAPE_TOLERANCE = 0.02
"""Largest relative difference of a slide mask's scales in x and y, besides one pixel of rounding."""


@dataclass(frozen=True, eq=False)
class SlideLabels:
    """A label image of any size that shows a whole slide.

    Attributes:
        labels: (h, w) integers.
        scale: (y, x) level-0 pixels per label pixel.
    """

    labels: np.ndarray
    scale: tuple[float, float]

    def at(self, tile: Tile, *, shape: tuple[int, int], scale: float) -> np.ndarray:
        """Sample the labels at the centres of a tile's pixels, (height, width); 0 beyond the slide."""
        rows, columns = (
            np.floor((start + (np.arange(count) + 0.5) * scale) / own).astype(np.int64)
            for start, count, own in zip((tile.y, tile.x), shape, self.scale, strict=True)
        )
        height, width = self.labels.shape
        inside = (rows < height)[:, None] & (columns < width)
        found = self.labels[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)]
        return np.where(inside, found, 0)


def read_slide_labels(path: Path, *, image: Path, image_shape: tuple[int, int]) -> SlideLabels:
    """Read a slide's mask.

    Raises:
        CvmError: a file that cannot be read, or of another shape than the slide.
    """
    labels = read_mask(path)
    scale = image_shape[0] / labels.shape[0], image_shape[1] / labels.shape[1]
    if abs(scale[0] - scale[1]) > (SHAPE_TOLERANCE + 1 / min(labels.shape)) * max(scale):
        raise CvmError(
            f"{path}: a mask of {labels.shape[1]} x {labels.shape[0]} px does not have the shape of {image}, "
            f"{image_shape[1]} x {image_shape[0]} px; it must show the whole slide"
        )
    return SlideLabels(labels, scale)


def cut_slide(
    plan: SlidePlan,
    out: Path,
    *,
    settings: CutSettings,
    classes: ClassMap | None = None,
    colours: Mapping[int, Colour],
    annotated: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Write ``images/``, ``points/``, ``masks/`` and ``novel/`` of a slide's tiles below ``out``.

    Existing files are kept. Every file is written under a temporary name and renamed, a tile's image last. If the slide
    cannot be read, the files of this call are removed.

    Args:
        colours: RGB of each label, for the GeoJSON files.
        annotated: write points and regions; otherwise points can be sampled from the masks.
        progress: called after each tile.

    Raises:
        CvmError: a region of the slide, or a mask, that cannot be read.
    """
    waiting = [tile for tile in plan.tiles if not _complete(plan, tile, out, settings, annotated=annotated)]
    for _ in range(len(plan.tiles) - len(waiting)):
        progress()
    if not waiting:
        return
    names, written = list(class_names(classes)), _Written()
    try:
        with opened_slide(plan.source, settings) as (image, _, _):
            masks = _mask_makers(plan, settings, classes)
            index = RegionIndex(plan.annotations.regions)
            for tile in waiting:
                name, clipped = plan.case_id(tile), partial(_clipped, index, plan, tile)
                if annotated and tile.kind != "tissue":
                    file = out / "points" / f"{name}.geojson"
                    written.add(file, partial(_write_points, file, plan, tile, clipped, names, colours))
                for folder, make in masks.items():
                    written.add_png(out / folder / f"{name}.png", partial(make, tile, clipped))
                read = partial(image.read_scaled, (tile.x, tile.y), shape=plan.shape, scale=(plan.scale, plan.scale))
                written.add_png(out / "images" / f"{name}.png", read)
                progress()
    except ValueError:
        for path in written.files:
            path.unlink(missing_ok=True)
        raise


def tile_files(plan: SlidePlan, tile: Tile, out: Path) -> tuple[Path, ...]:
    """Return every file that a tile may have below ``out``, whether it exists or not."""
    name = plan.case_id(tile)
    pictures = (out / folder / f"{name}.png" for folder in ("images", "masks", "novel"))
    return (*pictures, out / "points" / f"{name}.geojson")


def region_mask(regions: Sequence[Region], *, shape: tuple[int, int], classes: int = 2) -> np.ndarray:
    """Rasterise exhaustive regions to a mask, (H, W) uint8: pixels outside all regions are background.

    Exclusions are painted last. With two classes, exclusions and overlaps of target and background are background; with
    more classes, exclusions and overlaps of two classes are 255.
    """
    drawn = rasterise_regions(regions, image_shape=shape, map_shape=shape)
    if classes == 2:
        return (drawn == TARGET).astype(np.uint8)
    covered = [Region(region.exterior, region.holes, TARGET) for region in regions]
    unsure = (drawn == UNLABELLED) & (rasterise_regions(covered, image_shape=shape, map_shape=shape) == TARGET)
    return np.where(unsure, UNLABELLED, np.where(drawn == UNLABELLED, 0, drawn)).astype(np.uint8)


class _Written:
    """Writes files that do not exist yet, and keeps a list of them."""

    def __init__(self) -> None:
        self.files: list[Path] = []

    def add(self, file: Path, write: Callable[[], object]) -> None:
        if not file.exists():
            write()
            self.files.append(file)

    def add_png(self, file: Path, make: Callable[[], np.ndarray]) -> None:
        self.add(file, lambda: write_png(file, make()))


def _mask_folders(plan: SlidePlan, settings: CutSettings) -> tuple[str, ...]:
    """Return the folders of the masks that a slide's tiles get."""
    drawn = settings.region_masks and plan.annotations.regions
    masks = ("masks",) if plan.source.mask or drawn else ()
    return (*masks, "novel") if plan.source.novel else masks


def _complete(plan: SlidePlan, tile: Tile, out: Path, settings: CutSettings, *, annotated: bool) -> bool:
    """Whether all files of a tile exist."""
    name = plan.case_id(tile)
    folders = ("images", *_mask_folders(plan, settings))
    files = [out / folder / f"{name}.png" for folder in folders]
    if annotated and tile.kind != "tissue":
        files.append(out / "points" / f"{name}.geojson")
    return all(file.exists() for file in files)


def _mask_makers(plan: SlidePlan, settings: CutSettings, classes: ClassMap | None) -> dict[str, MaskMaker]:
    """Return for each mask folder the function that makes a tile's mask."""
    source, count, found = plan.source, len(class_names(classes)), dict[str, MaskMaker]()

    def labels_of(path: Path) -> Callable[[Tile], np.ndarray]:
        labels = read_slide_labels(path, image=source.image, image_shape=plan.image_shape)
        return partial(labels.at, shape=plan.shape, scale=plan.scale)

    def meant(mask: np.ndarray) -> np.ndarray:
        where = str(source.mask)
        if count == 2:
            return binary_mask(mask, classes=classes, where=where)
        return class_mask(mask, classes=classes or {}, where=where)

    if source.mask:
        at = labels_of(source.mask)
        found["masks"] = lambda tile, _: meant(at(tile))
    elif "masks" in _mask_folders(plan, settings):
        found["masks"] = lambda _, clipped: region_mask(clipped(), shape=plan.shape, classes=count)
    if source.novel:
        novel = labels_of(source.novel)
        found["novel"] = lambda tile, _: (novel(tile) != 0).astype(np.uint8)
    return found


def _clipped(index: RegionIndex, plan: SlidePlan, tile: Tile) -> tuple[Region, ...]:
    """Clip the regions to a tile, in its own pixels."""
    return index.clip((tile.x, tile.y), shape=plan.shape, scale=(plan.scale, plan.scale))


def _write_points(
    file: Path,
    plan: SlidePlan,
    tile: Tile,
    clipped: Callable[[], tuple[Region, ...]],
    names: Sequence[str],
    colours: Mapping[int, Colour],
) -> None:
    """Write a tile's points and regions in its own pixels; rounding moves no point across its border."""
    height, width = plan.shape
    below = np.nextafter(width, 0), np.nextafter(height, 0)
    points = []
    for point in (plan.annotations.points[index] for index in tile.points):
        x, y = (point.x - tile.x) / plan.scale, (point.y - tile.y) / plan.scale
        points.append(Point(float(min(max(x, 0), below[0])), float(min(max(y, 0), below[1])), point.label))
    write_geojson(file, Annotations(tuple(points), clipped()), names=names, colours=colours)
