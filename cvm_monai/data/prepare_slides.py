"""Cut a folder of slides and annotations into a data set of tiles that every command accepts."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvm_monai.annotations import COLOURS, regions_from_labels, write_geojson
from cvm_monai.annotations.class_map import with_unclassified
from cvm_monai.annotations.labels import ClassMap, UnknownLabelsError, class_colours, class_names, label_table
from cvm_monai.annotations.model import Annotations
from cvm_monai.data.check import Outside
from cvm_monai.data.cutting import cut_slide
from cvm_monai.data.folder import Source, read_folder
from cvm_monai.data.folds import deal
from cvm_monai.data.output import check_writable, noted
from cvm_monai.data.prepare import check_choices, prepare
from cvm_monai.data.report import PrepareReport
from cvm_monai.data.slide_plan import CutSettings, SlidePlan, plan_slide
from cvm_monai.data.tile_manifest import add_slides, check_present, forget_uncut, read_manifest
from cvm_monai.errors import CvmError
from cvm_monai.files import write_text

COLUMNS = ("case_id", "patient_id", "mpp", "slide", "origin_x", "origin_y", "level0_scale", "tile")
"""Columns of the tiles' cases.csv; the user's columns follow."""


@dataclass(frozen=True)
class SlidesReport:
    """What was cut, and the data list of the tiles.

    Attributes:
        slides: summary of each slide, by its id.
        warnings: about the slides.
        prepared: the report on the tiles.
    """

    slides: Mapping[str, str]
    warnings: tuple[str, ...]
    prepared: PrepareReport

    def __str__(self) -> str:
        lines = [f"{slide}: {sentence}" for slide, sentence in self.slides.items()]
        if self.warnings:
            lines += ["", "Warnings about slides", *(f"  {sentence}" for sentence in self.warnings)]
        return "\n".join([*lines, "", str(self.prepared)])


def prepare_slides(
    folder: str | Path,
    *,
    out: str | Path,
    settings: CutSettings,
    pairs: int = 5,
    folds: int = 4,
    seed: int = 0,
    classes: ClassMap | None = None,
    unclassified: str | int | None = None,
    outside: Outside = "drop",
) -> SlidesReport:
    """Cut tiles from slides and prepare them: ``OUT/images``, ``points``, ``masks``, ``cases.csv``, ``datalist.json``.

    Annotations are in level-0 pixels of the slide (from ``settings.origin``) and are written in those of the tile. Each
    point belongs to one tile; regions are clipped to every tile that they intersect. Existing tiles are not cut again,
    and the same settings give the same bytes. If a slide is refused, the others are cut nevertheless.

    Args:
        folder: has ``slides/`` or ``images/``, and what `prepare` accepts; ``masks/`` of any size show whole slides.
        settings: um/px and size of the tiles.
        pairs, folds, seed, classes, unclassified, outside: as in `prepare`.

    Raises:
        CvmError: slides that were refused, all of them, after the others were cut; tiles of other settings in
            ``out``; or an error of `prepare`. Its notes are warnings.
    """
    check_choices(pairs=pairs, outside=outside)
    classes, target = with_unclassified(classes, unclassified), Path(out).resolve()
    if target == Path(folder).resolve():
        raise CvmError(f"{out} is your own folder; give another --output")
    check_writable(target)
    manifest = read_manifest(target, settings=settings.facts() | {"classes": dict(classes or {}), "outside": outside})
    found = read_folder(folder, classes=classes, slides=True)
    notes = list(found.passed_over)
    with noted(notes):
        _check_columns(found.sources, Path(folder) / "cases.csv")
        check_present(target, manifest, [source.case_id for source in found.sources])
        plan = _planner(settings, classes, outside)
        plans, refused = plan_all(found.sources, plan, where=Path(folder) / "points", classes=classes)
        remarks = tuple(sentence for plan in plans for sentence in plan.warnings)
        notes += remarks
        if not any(plan.tiles for plan in plans):
            raise CvmError(_nothing(plans, refused))
        if not refused:  # before the long work
            ids = [(plan.case_id(tile), plan.source.patient_id) for plan in plans for tile in plan.tiles]
            deal(*zip(*ids, strict=True), folds=folds, seed=seed)
        uncut = cut_all(plans, target, manifest, settings=settings, classes=classes)
        _write_tissue((plan for plan in plans if plan.source.case_id not in uncut), target)
        refuse([*refused, *uncut.values()], len(found.sources), target)
        prepared = prepare_tiles(plans, target, pairs=pairs, folds=folds, seed=seed, classes=classes)
    return SlidesReport({plan.source.case_id: plan.sentence for plan in plans}, (*found.warnings, *remarks), prepared)


def plan_all(
    sources: Sequence[Source], plan: Callable[[Source], SlidePlan], *, where: Path, classes: ClassMap | None
) -> tuple[list[SlidePlan], list[str]]:
    """Plan each slide; return the plans and an error message for each slide that was refused.

    Raises:
        CvmError: unknown labels, those of all slides together.
    """
    plans: list[SlidePlan] = []
    refused: list[str] = []
    unknown: list[UnknownLabelsError] = []
    for source in tqdm(sources, desc="planning", unit="slide", disable=None):
        try:
            plans.append(plan(source))
        except UnknownLabelsError as error:
            unknown.append(error)
        except ValueError as error:
            refused.append(str(error))
    if len(unknown) == 1:
        raise unknown[0]
    if unknown:
        labels: Counter[str | None] = Counter()
        for one in unknown:
            labels.update(one.labels)
        raise UnknownLabelsError(f"{where} ({len(unknown)} files)", labels, label_table(classes))
    return plans, refused


def cut_all(
    plans: Sequence[SlidePlan],
    out: Path,
    manifest: dict[str, Any],
    *,
    settings: CutSettings,
    classes: ClassMap | None,
    annotated: bool = True,
) -> dict[str, str]:
    """Cut all slides and list them in the manifest; return an error message for each slide that was refused, by its id.

    Slides without annotations get no points files. A refused slide without tiles is removed from the manifest.

    Raises:
        CvmError: a slide whose files have changed since its tiles were cut, before anything is cut.
    """
    add_slides(out, manifest, plans)
    refused: dict[str, str] = {}
    colours = {**COLOURS, **class_colours(classes)}
    with tqdm(total=sum(len(plan.tiles) for plan in plans), desc="cutting", unit="tile", disable=None) as bar:
        for plan in plans:
            marked = annotated and bool(plan.annotations.points or plan.annotations.regions)
            shown = {**colours, **plan.annotations.colours, **class_colours(classes)}
            try:
                cut_slide(
                    plan, out, settings=settings, classes=classes, colours=shown, annotated=marked, progress=bar.update
                )
            except ValueError as error:
                refused[plan.source.case_id] = str(error)
    forget_uncut(out, manifest, [plan for plan in plans if plan.source.case_id in refused])
    return refused


def refuse(refused: Sequence[str], count: int, out: Path) -> None:
    """Raise the errors of refused slides.

    Raises:
        CvmError: if any slide was refused.
    """
    if refused:
        raise CvmError(
            f"{len(refused)} of {count} slides cannot be used: {'; '.join(refused)}. The tiles of the others stay in "
            f"{out}: correct or remove these slides, and run again"
        )


def prepare_tiles(
    plans: Iterable[SlidePlan],
    out: Path,
    *,
    pairs: int,
    folds: int,
    seed: int,
    classes: ClassMap | None,
    min_distance: float = 3.0,
) -> PrepareReport:
    """Write cases.csv of the tiles, and prepare them; no points are sampled from masks of annotated slides."""
    rows, unsampled = [], []
    for plan in plans:
        for tile in plan.tiles:
            rows.append(_row(plan, tile.x, tile.y, tile.kind, plan.case_id(tile)))
            if tile.kind == "tissue" and (plan.annotations.points or plan.annotations.regions):
                unsampled.append(plan.case_id(tile))
    write_text(out / "cases.csv", _table(rows))
    meant: dict[str, Any] = {name: {"class": label} for name, label in class_names(classes).items()}
    for label, colour in class_colours(classes).items():
        name = next((name for name, number in class_names(classes).items() if number == label), "exclusion")
        meant[name] = {"class": name if name == "exclusion" else label, "color": list(colour)}
    report = prepare(
        out,
        out=out,
        pairs=pairs,
        folds=folds,
        seed=seed,
        classes=meant,
        min_distance=min_distance,
        unsampled=unsampled,
    )
    return replace(report, read={}, overlaps=())  # reported for the slides


def _planner(settings: CutSettings, classes: ClassMap | None, outside: Outside) -> Callable[[Source], SlidePlan]:
    return lambda source: plan_slide(source, settings=settings, classes=classes, outside=outside)


def _check_columns(sources: Sequence[Source], path: Path) -> None:
    """Refuse user columns that have the name of a column of the tiles' table."""
    own = {name for source in sources for name in source.columns}
    taken = sorted(own & set(COLUMNS))
    if taken:
        raise CvmError(f"{path}, line 1: the column name {taken[0]!r} is reserved for the tiles; rename it")


def _nothing(plans: Sequence[SlidePlan], refused: Sequence[str]) -> str:
    """Make the error message for a folder without any tile."""
    if refused:
        return "; ".join(refused)
    return "; ".join(sentence for plan in plans for sentence in plan.warnings)


def _write_tissue(plans: Iterable[SlidePlan], out: Path) -> None:
    """Write the detected tissue as polygons, which can be corrected in QuPath and supplied in ``tissue/``."""
    for plan in plans:
        file = out / "tissue" / f"{plan.source.case_id}.geojson"
        if plan.tissue is not None and not file.exists():
            step = max(plan.tissue.scale)
            regions = regions_from_labels(
                plan.tissue.mask.astype("uint8"),
                scale=plan.tissue.scale,
                origin=(-plan.corner[1], -plan.corner[0]),
                simplify=step,
                min_area=step**2,
            )
            write_geojson(file, Annotations((), regions), names=("glass", "tissue"))


def _row(plan: SlidePlan, x: int, y: int, kind: str, case_id: str) -> dict[str, str]:
    """Make a tile's row of cases.csv."""
    source = plan.source
    values = (case_id, source.patient_id, plan.tile_mpp, source.case_id, x, y, plan.scale, kind)
    return dict(zip(COLUMNS, map(str, values), strict=True)) | dict(source.columns)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Format the rows as CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
