"""Prepare the paper's data set: crops around lesions of Camelyon16's positive slides, with masks from the XML files."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvm_monai.annotations import Annotations, describe, read_annotations
from cvm_monai.annotations.class_map import READY
from cvm_monai.annotations.labels import ClassMap
from cvm_monai.annotations.nesting import overlap_warnings, with_overlaps
from cvm_monai.annotations.outside import clip
from cvm_monai.annotations.reader import annotation_suffix
from cvm_monai.data.folder import Source
from cvm_monai.data.folds import deal
from cvm_monai.data.lesions import Crop, choose_crops
from cvm_monai.data.output import check_writable, noted
from cvm_monai.data.prepare import check_choices
from cvm_monai.data.prepare_slides import cut_all, plan_all, prepare_tiles, refuse
from cvm_monai.data.report import PrepareReport
from cvm_monai.data.slide_plan import CutSettings, SlidePlan, beyond_border, opened_slide
from cvm_monai.data.tile_manifest import check_present, read_manifest
from cvm_monai.errors import CvmError
from cvm_monai.files import sha256, write_text
from cvm_monai.shards import in_shard
from cvm_monai.slides import SLIDE_SUFFIXES

MANIFEST = "manifest.csv"
MIN_DISTANCE = 16.0
"""Distance of sampled points from a lesion's border in px: 8 um at 20x, one pixel of the paper's 256 x 256 maps."""

SHOWN = 5


@dataclass(frozen=True)
class CamelyonReport:
    """The crops and their data list.

    Attributes:
        slides: summary of each slide, by its id.
        without_xml: slides without annotations, left out.
        without_slide: annotation files without a slide, left out.
        warnings: about the slides.
        prepared: the report on the crops; None for a shard, which prepares nothing.
    """

    slides: Mapping[str, str]
    without_xml: tuple[str, ...]
    without_slide: tuple[str, ...]
    warnings: tuple[str, ...]
    prepared: PrepareReport | None

    def __str__(self) -> str:
        lines = [f"{slide}: {sentence}" for slide, sentence in self.slides.items()]
        for what, names in (("slides without XML", self.without_xml), ("XML without slide", self.without_slide)):
            if names:
                lines.append(f"left out, {what}: {_some(names)}")
        lines += [f"warning: {sentence}" for sentence in self.warnings]
        last = "the same command without --shard prepares the data set" if self.prepared is None else str(self.prepared)
        return "\n".join([*lines, "", last])


def camelyon16(
    slides: str | Path,
    annotations: str | Path,
    *,
    out: str | Path,
    settings: CutSettings,
    crops_per_slide: int = 2,
    pairs: int = 3,
    folds: int = 4,
    seed: int = 0,
    classes: ClassMap = READY["camelyon16"],
    shard: str | None = None,
) -> CamelyonReport:
    """Write crops around lesions, masks, points sampled from the masks, ``manifest.csv`` and ``datalist.json``.

    A crop's mask is 1 where a target region covers the pixel's centre and no exclusion does. A slide is its patient.

    Args:
        slides: folder of slides, searched with its subfolders.
        annotations: folder of ASAP's XML files, named after the slides.
        settings: um/px and side of the crops, see `CutSettings`; the paper has 0.5 and 4096.
        crops_per_slide: maximum number; see `choose_crops`. The paper does not say how its crops were chosen.
        pairs: number of points sampled of each class, see `prepare`.
        folds, seed: as in `prepare`.
        classes: class map; targets are tumour, exclusions are background.
        shard: cut the slides of this part alone, as `3/16`, into the same `out`, and prepare nothing: the call without
            a shard then finds them cut.

    Raises:
        CvmError: a shard out of range; shards of different settings; no slide with annotations; slides that were
            refused, all of them, after the others were cut. Its notes are warnings.
    """
    if crops_per_slide < 1:
        raise CvmError(f"--crops_per_slide must be at least 1, got {crops_per_slide}")
    check_choices(pairs=pairs)
    target = Path(out).resolve()
    check_writable(target)
    facts = settings.facts() | {"crops_per_slide": crops_per_slide, "classes": dict(classes)}
    manifest = read_manifest(target, settings=facts)
    sources, without_xml, without_slide = match(Path(slides), Path(annotations))
    check_present(target, manifest, [source.case_id for source in sources])
    sources = in_shard(sources, shard)
    crops: dict[str, tuple[Crop, ...]] = {}

    def plan(source: Source) -> SlidePlan:
        planned, crops[source.case_id] = _plan(source, settings=settings, count=crops_per_slide, classes=classes)
        return planned

    plans, refused = plan_all(sources, plan, where=Path(annotations), classes=classes)
    warnings = tuple(sentence for planned in plans for sentence in planned.warnings)
    with noted(warnings):
        if shard is None and not any(planned.tiles for planned in plans):
            raise CvmError("; ".join(refused) or f"{annotations}: no lesion is annotated in any of the files")
        if shard is None and not refused:  # before the long work
            ids = [(planned.case_id(tile), planned.source.patient_id) for planned in plans for tile in planned.tiles]
            deal(*zip(*ids, strict=True), folds=folds, seed=seed)
        uncut = cut_all(plans, target, manifest, settings=settings, classes=classes, annotated=False)
        refuse([*refused, *uncut.values()], len(sources), target)
        if shard is not None:
            return CamelyonReport(_sentences(plans), without_xml, without_slide, warnings, None)
        write_text(target / MANIFEST, _manifest(plans, crops, target))
        prepared = prepare_tiles(
            plans, target, pairs=pairs, folds=folds, seed=seed, classes=None, min_distance=MIN_DISTANCE
        )
    return CamelyonReport(_sentences(plans), without_xml, without_slide, warnings, prepared)


def _sentences(plans: Sequence[SlidePlan]) -> dict[str, str]:
    """Summary of each slide, by its id."""
    return {planned.source.case_id: planned.sentence for planned in plans}


def match(slides: Path, annotations: Path) -> tuple[tuple[Source, ...], tuple[str, ...], tuple[str, ...]]:
    """Match slides with XML files; return them, the names of slides without XML, and XML files without a slide.

    Raises:
        CvmError: no such folder, two slides of one name, or no match at all.
    """
    found = _by_name(slides, SLIDE_SUFFIXES)
    files = _by_name(annotations, (".xml", ".xml.gz"))
    both = sorted(set(found) & set(files))
    if not both:
        raise CvmError(
            f"no slide of {slides} ({len(found)}) has the name of an XML file of {annotations} ({len(files)}): "
            "tumor_001.tif goes with tumor_001.xml"
        )
    sources = tuple(Source(name, name, found[name], files[name], None, None, None, None, {}) for name in both)
    return sources, tuple(sorted(set(found) - set(files))), tuple(sorted(set(files) - set(found)))


def _by_name(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Map names without suffix to files, also in subfolders."""
    if not folder.is_dir():
        raise CvmError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        suffix = (annotation_suffix(file) or "") if ".xml" in suffixes else file.suffix.lower()
        if suffix not in suffixes or file.name.startswith(".") or not file.is_file():
            continue
        name = file.name[: -len(suffix)]
        if name in found:
            raise CvmError(f"{found[name]} and {file} have one name; remove one")
        found[name] = file
    return found


def _plan(
    source: Source, *, settings: CutSettings, count: int, classes: ClassMap
) -> tuple[SlidePlan, tuple[Crop, ...]]:
    """Choose the crops of one slide."""
    assert source.points_file is not None
    assert settings.tile is not None
    with opened_slide(source, settings) as (image, mpp, warnings):
        found = with_overlaps(read_annotations(source.points_file, classes=classes), file=source.points_file)
        regions = Annotations((), found.regions, found.counts)
        lesions = clip(regions, image.shape, source=source.points_file, image=source.image)
        side, shape = settings.tile * settings.mpp / mpp, (settings.tile, settings.tile)
        crops = choose_crops(lesions.regions, side=side, count=count, image_shape=image.shape)
        tiles = tuple(crop.tile for crop in crops)
        plan = SlidePlan(source, mpp, settings.mpp, image.shape, lesions, tiles, shape, "", warnings)
        remarks = overlap_warnings(found.counts, source.case_id)
        return replace(plan, sentence=_sentence(plan, crops), warnings=(*warnings, *remarks)), crops


def _sentence(plan: SlidePlan, crops: Sequence[Crop]) -> str:
    """Summarise the lesions of a slide and how many are in crops."""
    found = describe(plan.annotations, names=("background", "tumour"))
    if not crops:
        return f"{found}; no lesion, left out"
    share = sum(crop.share for crop in crops) / len(crops)
    sentence = f"{found}; {len(crops)} crop{'s' * (len(crops) != 1)}, {share:.1%} of them tumour"
    beyond = beyond_border(plan)
    return sentence + (f", {beyond} reach{'es' * (beyond == 1)} beyond the slide, white there" if beyond else "")


def _manifest(plans: Sequence[SlidePlan], crops: Mapping[str, Sequence[Crop]], out: Path) -> str:
    """Make the CSV manifest with a row for each crop."""
    text = io.StringIO()
    rows: list[dict[str, Any]] = []
    for plan in plans:
        for crop in crops[plan.source.case_id]:
            case_id = plan.case_id(crop.tile)
            files = {kind: out / f"{kind}s" / f"{case_id}.png" for kind in ("image", "mask")}
            rows.append(
                {
                    "case_id": case_id,
                    "slide": plan.source.image.name,
                    "annotations": plan.source.points_file.name if plan.source.points_file else "",
                    "origin_x": crop.tile.x,
                    "origin_y": crop.tile.y,
                    "level0_scale": plan.scale,
                    "lesions": crop.lesions,
                    "tumour_share": round(crop.share, 6),
                    **{f"{kind}_sha256": sha256(file) for kind, file in files.items()},
                }
            )
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}, {', '.join(names[:SHOWN])}{more}"
