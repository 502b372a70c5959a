"""Plan the tiles of a slide: determine its um/px, read its annotations, choose tiles; reads no tile pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from cvm_monai.annotations import UNLABELLED, Annotations, describe, read_annotations
from cvm_monai.annotations.labels import ClassMap, class_names
from cvm_monai.annotations.move import moved
from cvm_monai.annotations.nesting import nest, overlap_warnings, with_overlaps
from cvm_monai.annotations.outside import not_one_inside
from cvm_monai.data.check import Outside, keep_inside
from cvm_monai.data.clip import RegionIndex, annotated
from cvm_monai.data.folder import Source
from cvm_monai.data.tiles import Tile, check_tile_size, cover_points, grid, outside_part, spread_tiles
from cvm_monai.errors import CvmError
from cvm_monai.slides import (
    Origin,
    SlideImage,
    TissueMask,
    check_mpp,
    corner,
    open_image,
    read_tissue_mask,
    require_mpp,
    tissue_mask,
    warnings_of,
)
from cvm_monai.slides.resolution import DISAGREE, LIMITS, MAX_RATIO

MAX_WHOLE = 2**28
"""Largest number of pixels of a core or crop that is cut as a whole (16,384 x 16,384; 768 MiB of RGB)."""


@dataclass(frozen=True)
class CutSettings:
    """Settings of cutting slides into tiles.

    Attributes:
        mpp: um/px of the tiles; raising it shows more tissue and fewer details. 0.25 (40x) to 2; 0.5 is 20x.
        tile: side of a tile in pixels, a multiple of 32 from 64; raising it leaves fewer tiles. None cuts each slide,
            core or crop as a whole.
        image_mpp: um/px of slides for which neither the file nor cases.csv states it.
        force_mpp: prefer cases.csv and ``image_mpp`` to the file, and accept um/px that are implausible for a
            microscope or more than twice as coarse as the tiles.
        tissue_tiles: number of further tiles of each slide, on tissue without annotations; from 0.
        origin: origin of the coordinates of annotations and drawn tissue.
        region_masks: the regions are exhaustive: rasterised they are the tile's mask, background elsewhere.

    Raises:
        CvmError: a value out of its range.
    """

    mpp: float
    tile: int | None = 1024
    image_mpp: float | None = None
    force_mpp: bool = False
    tissue_tiles: int = 0
    region_masks: bool = False
    origin: Origin = "level0"

    def __post_init__(self) -> None:
        for name, value in (("--mpp", self.mpp), ("--image_mpp", self.image_mpp)):
            if value is not None and not 0 < value < float("inf"):
                raise CvmError(f"{name} must be a positive number of um/px, got {value!r}")
        check_mpp(self.mpp, None, force=self.force_mpp)
        if self.tile is not None:
            check_tile_size(self.tile)
        if self.tissue_tiles < 0:
            raise CvmError(f"--tissue_tiles must be 0 or more, got {self.tissue_tiles}")
        if self.tile is None and self.tissue_tiles:
            raise CvmError("--tissue_tiles and --whole exclude each other: a whole image has all its tissue")
        if self.origin not in get_args(Origin):
            raise CvmError(f"--origin must be one of {', '.join(get_args(Origin))}, got {self.origin!r}")

    def facts(self) -> dict[str, Any]:
        """Return the settings that affect the tiles, for the record; the default origin is omitted."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("origin", "level0")}


@dataclass(frozen=True)
class SlidePlan:
    """The tiles of one slide.

    Attributes:
        mpp: um/px of level 0.
        tile_mpp: um/px of the tiles.
        image_shape: (height, width) of level 0.
        annotations: annotations inside the slide, in level-0 pixels.
        tiles: tiles in the order in which they are cut.
        shape: (height, width) of each tile in its own pixels.
        sentence: summary of annotations and tiles, without the slide's name.
        warnings: messages for the user.
        tissue: detected tissue; None where it is not needed, or where the user has drawn it.
        corner: origin of the coordinates in the user's files, (x, y) in level-0 pixels.
    """

    source: Source
    mpp: float
    tile_mpp: float
    image_shape: tuple[int, int]
    annotations: Annotations
    tiles: tuple[Tile, ...]
    shape: tuple[int, int]
    sentence: str
    warnings: tuple[str, ...] = ()
    tissue: TissueMask | None = None
    corner: tuple[int, int] = (0, 0)

    @property
    def scale(self) -> float:
        """Level-0 pixels per tile pixel."""
        return self.tile_mpp / self.mpp

    def case_id(self, tile: Tile) -> str:
        """Return ``slide_x_y``, or the slide's id if it is cut as a whole."""
        slide = self.source.case_id
        return slide if tile.kind == "whole" else f"{slide}_{tile.x}_{tile.y}"


def plan_slide(
    source: Source, *, settings: CutSettings, classes: ClassMap | None = None, outside: Outside = "drop"
) -> SlidePlan:
    """Open a slide, read its annotations and choose its tiles.

    Args:
        classes, outside: as in `prepare`.

    Raises:
        CvmError: a slide that cannot be opened or whose um/px is unknown, or invalid annotations.
    """
    with opened_slide(source, settings) as (image, mpp, warnings):
        origin = corner(image, settings.origin)
        annotations, sentence = _annotations(source, image.shape, classes=classes, outside=outside, corner=origin)
        scale, tissue, shape = settings.mpp / mpp, None, (settings.tile or 0, settings.tile or 0)
        if settings.tile is None:
            shape = _whole_shape(source, image.shape, scale)
            tiles: tuple[Tile, ...] = (Tile(0, 0, tuple(range(len(annotations.points))), "whole"),)
        else:
            side = settings.tile * scale
            tiles = annotated_tiles(annotations, side=side, image_shape=image.shape)
            if settings.tissue_tiles:
                drawn = source.tissue
                tissue = read_tissue_mask(drawn, image, origin=settings.origin) if drawn else tissue_mask(image)
                corners = grid(side, image.shape)
                corners = corners[~annotated(annotations, corners, side=side)]
                part = tissue.covers(corners[:, 0], corners[:, 1], side, side)
                tiles += spread_tiles(corners, part, count=settings.tissue_tiles, side=side, taken=tiles)
        found = tissue if source.tissue is None else None
        facts = (source, mpp, settings.mpp, image.shape, annotations, tiles, shape, sentence, warnings)
        plan = SlidePlan(*facts, tissue=found, corner=origin)
        return replace(plan, sentence=f"{sentence}; {_counted(plan)}", warnings=(*warnings, *_remarks(plan)))


@contextmanager
def opened_slide(source: Source, settings: CutSettings) -> Iterator[tuple[SlideImage, float, tuple[str, ...]]]:
    """Open a slide; yield it, its um/px (from the file, else cases.csv, else ``image_mpp``) and warnings.

    A um/px of the file that is implausible for a microscope is ignored if one of the others is given.

    Raises:
        CvmError: a slide that cannot be opened, or a um/px that is unknown or implausible.
    """
    with open_image(source.image) as image:
        mpp, warnings = _slide_mpp(image, source.mpp, settings)
        if image.mpp.value == mpp:
            yield image, mpp, warnings
            return
    with open_image(source.image, mpp=mpp) as image:
        yield image, mpp, warnings


def annotated_tiles(annotations: Annotations, *, side: float, image_shape: tuple[int, int]) -> tuple[Tile, ...]:
    """Choose tiles that contain all points, and one at the middle of each region that no tile touches."""
    positions = np.array([(point.x, point.y) for point in annotations.points], dtype=np.float64).reshape(-1, 2)
    labels = np.array([point.label for point in annotations.points])
    tiles = cover_points(positions, labels, side=side, image_shape=image_shape)
    regions = [region for region in annotations.regions if region.label != UNLABELLED]
    if not regions:
        return tiles
    index = RegionIndex(RegionIndex(regions).clip((0, 0), shape=image_shape, scale=(1.0, 1.0)))
    touched = {found for tile in tiles for found in index.touching((tile.x, tile.y), (side, side))}
    alone = [number for number in range(len(index.regions)) if number not in touched]
    middles = np.array([index.middle(number) for number in alone]).reshape(-1, 2)
    classes = np.array([index.regions[number].label for number in alone])
    around = cover_points(middles, classes, side=side, image_shape=image_shape)
    return (*tiles, *(replace(tile, points=()) for tile in around))


def _slide_mpp(image: SlideImage, listed: float | None, settings: CutSettings) -> tuple[float, tuple[str, ...]]:
    """Determine um/px of level 0, with warnings."""
    found, said = image.mpp.value, settings.image_mpp if listed is None else listed
    warnings = list(warnings_of(image, settings.origin))
    believed = found is not None and LIMITS[0] <= found <= LIMITS[1] and not settings.force_mpp
    if said is not None and not believed:
        value = said
        if found is not None and abs(said - found) > DISAGREE * found:
            warnings.append(f"{image.path}: the file says {found:g} um/px, which is not believed; {said:g} is used")
    else:
        value = require_mpp(image, "--image_mpp")
        if said is not None and abs(said - value) > DISAGREE * value:
            warnings.append(f"{image.path}: the file says {value:g} um/px, which is used; {said:g} was given")
    try:
        check_mpp(value, None, force=settings.force_mpp, flag="--image_mpp")
    except ValueError as error:
        raise CvmError(f"{image.path}: {error}") from None
    if value > MAX_RATIO * settings.mpp and not settings.force_mpp:
        raise CvmError(_too_coarse(image, value, settings.mpp, listed=listed, given=settings.image_mpp))
    return value, tuple(warnings)


def _too_coarse(image: SlideImage, value: float, tiles: float, *, listed: float | None, given: float | None) -> str:
    """Make the error message for a slide coarser than the tiles, with the remedy if its file may be wrong."""
    fault = f"{image.path} has {value:.4g} um/px, more than {MAX_RATIO:g} times coarser than --mpp {tiles:g}"
    said, where = (given, "--image_mpp") if listed is None else (listed, "cases.csv")
    if image.mpp.value != value:
        return (
            f"{fault}: correct {where} if it is wrong, give a larger --mpp, or --force_mpp to enlarge it all the same"
        )
    if said is not None and said != value:
        return f"{fault}: give a larger --mpp, or --force_mpp to believe {where}, which says {said:g}, before the file"
    return (
        f"{fault}: give a larger --mpp; where the file is wrong, the right number by --image_mpp and --force_mpp; "
        "--force_mpp alone enlarges the slide"
    )


def _annotations(
    source: Source,
    image_shape: tuple[int, int],
    *,
    classes: ClassMap | None,
    outside: Outside,
    corner: tuple[int, int],
) -> tuple[Annotations, str]:
    """Read a slide's annotations, in level-0 pixels, with inner regions cut out of outer ones; return a summary too."""
    names = class_names(classes)
    found = source.points or Annotations()
    if source.points_file is not None:
        found = read_annotations(source.points_file, classes=classes)
    found = with_overlaps(moved(found, *corner), file=source.points_file or "points.csv")
    kept, dropped = keep_inside(found, image_shape, case_id=source.case_id, names=list(names))
    file = source.points_file or "points.csv"
    if dropped and outside == "refuse":
        raise CvmError(f"{file}: {dropped[0]}; correct it, or leave such annotations out by --outside drop")
    if dropped and not kept.points and not kept.regions:
        raise CvmError(not_one_inside(found, image_shape, source=file, image=source.image))
    kept = replace(kept, regions=nest(kept.regions))
    return kept, describe(found, names=names, image_shape=image_shape)


def _whole_shape(source: Source, image_shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Compute (height, width) of a core or crop at the tiles' um/px."""
    height, width = (max(1, round(extent / scale)) for extent in image_shape)
    if height * width > MAX_WHOLE:
        raise CvmError(
            f"{source.image} would become one image of {width} x {height} px, too large for one image: cut tiles by "
            "--tile 1024, or give a larger --mpp"
        )
    return height, width


def _counted(plan: SlidePlan) -> str:
    """Summarise the tiles of a plan."""
    if [tile.kind for tile in plan.tiles] == ["whole"]:
        return f"whole, {plan.shape[1]} x {plan.shape[0]} px"
    count, notes = len(plan.tiles), []
    if tissue := sum(tile.kind == "tissue" for tile in plan.tiles):
        notes.append(f"{tissue} on tissue without annotations")
    if beyond := beyond_border(plan):
        notes.append(f"{beyond} reach{'es' * (beyond == 1)} beyond the slide, white there")
    return f"{count} tile{'s' * (count != 1)}" + (f" ({', '.join(notes)})" if notes else "")


def beyond_border(plan: SlidePlan) -> int:
    """Count tiles that extend beyond the slide by more than rounding to whole pixels."""
    side = plan.shape[0] * plan.scale
    parts = [outside_part(tile, side=side, image_shape=plan.image_shape) for tile in plan.tiles if tile.kind != "whole"]
    return sum(part > 2 / side for part in parts)


def _remarks(plan: SlidePlan) -> list[str]:
    """Make warnings about a slide with overlapping regions, or without tiles."""
    slide, remarks = plan.source.case_id, list(overlap_warnings(plan.annotations.counts, plan.source.case_id))
    if plan.tiles:
        return remarks
    if plan.tissue is not None:
        found = f"{slide}: no tissue without annotations was found where a tile would fit"
        return [*remarks, f"{found}; draw it, as tissue/{slide}.geojson"]
    has = "a mask but no annotations" if plan.source.mask else "no annotations"
    return [*remarks, f"{slide}: {has}, so that no tile was cut; --tissue_tiles 4 cuts four on its tissue"]
