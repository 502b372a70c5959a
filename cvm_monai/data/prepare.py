"""Make a checked data list from a user's folder."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from cvm_monai.annotations import COLOURS, write_geojson
from cvm_monai.annotations.class_map import with_unclassified
from cvm_monai.annotations.labels import ClassMap, UnknownLabelsError, class_colours, class_names, label_table
from cvm_monai.data.check import CheckedCase, Outside, check_case, mapped_mask
from cvm_monai.data.datalist import FILE_NAME, Case, write_datalist
from cvm_monai.data.folder import Source, read_folder
from cvm_monai.data.folds import deal
from cvm_monai.data.output import check_writable, noted, write_png
from cvm_monai.data.report import SHOWN, PrepareReport, make_report
from cvm_monai.errors import CvmError
from cvm_monai.files import sha256, shown


def prepare(
    folder: str | Path,
    *,
    out: str | Path,
    pairs: int = 5,
    folds: int = 4,
    seed: int = 0,
    classes: ClassMap | None = None,
    unclassified: str | int | None = None,
    outside: Outside = "drop",
    min_distance: float = 3.0,
    unsampled: Collection[str] = (),
) -> PrepareReport:
    """Check a folder, sample points where a case has a mask only, assign folds, and write ``OUT/datalist.json``.

    Every image is decoded. The user's files are referenced, never copied or changed; missing points, and files that
    need a class map, are written to ``OUT/points/`` (and ``OUT/masks/``). The data list is written last, so that a
    failure leaves an earlier one unchanged. Points sampled by an earlier preparation are sampled again, unless their
    file was edited since.

    Args:
        folder: has ``images/`` and optionally ``points/`` or ``points.csv``, ``masks/``, ``novel/`` and ``cases.csv``.
        out: folder to write into.
        pairs: points sampled of each class from a mask; raising it gives more supervision. From 1; 3 to 10 are usual.
        folds: number of folds, from 2; raising it leaves more cases for training. A single patient's cases are divided
            by image, with a warning; 1 trains on all of one or two patients without a test.
        seed: seed of the folds and of the sampling.
        classes: class map for labels and mask values, see ``annotations.labels.label_table``; it decides how many
            classes there are.
        unclassified: what annotations without a label mean; None leaves that to the class map.
        outside: leave out annotations outside their image (`drop`), or refuse them; a file with no annotation inside
            its image is refused either way.
        min_distance: distance of sampled points from borders in px, where possible, see ``sample_points``.
        unsampled: case ids from whose masks no points are sampled; the masks are used for scoring only.

    Raises:
        CvmError: an invalid file, named; or an ``out`` that cannot be written. Its notes are warnings.

    Example:
        >>> import cvm_monai as cvm
        >>> report = cvm.prepare("data/phantom", out="prepared", pairs=3, folds=2)
        >>> len(cvm.read_datalist("prepared").cases)
        4
    """
    check_choices(pairs=pairs, outside=outside)
    classes = with_unclassified(classes, unclassified)
    target = Path(out).resolve()
    check_writable(target)
    found = read_folder(folder, classes=classes, generated=_generated(target))
    with noted(found.passed_over):
        ids = [source.case_id for source in found.sources]
        dealt = deal(ids, [source.patient_id for source in found.sources], folds=folds, seed=seed)
        check = partial(check_case, pairs=pairs, seed=seed, classes=classes, outside=outside, min_distance=min_distance)
        sources = [
            replace(source, sampled=source.case_id not in unsampled, patient_id=patient)
            for source, patient in zip(found.sources, dealt.patient_ids, strict=True)
        ]
        checked = _check_all(sources, check, where=Path(folder) / "points", classes=classes)
        _check_overwrites(checked, target)
        names, colours = class_names(classes), class_colours(classes)
        cases = [
            _write_case(case, fold, target, classes, colours) for case, fold in zip(checked, dealt.folds, strict=True)
        ]
        datalist = write_datalist(target / FILE_NAME, cases, classes=names, tested=dealt.tested)
    warnings = (*found.warnings, *dealt.warnings, *_image_warnings(checked), *_same_images(cases))
    return make_report(datalist, checked, warnings=warnings, min_distance=min_distance)


def check_choices(*, pairs: int, outside: Outside = "drop") -> None:
    """Check arguments of `prepare` before any work.

    Raises:
        CvmError: ``pairs`` below 1, or an unknown ``outside``.
    """
    if outside not in get_args(Outside):
        raise CvmError(f"outside must be one of {', '.join(get_args(Outside))}, got {shown(outside)}")
    if pairs < 1:
        raise CvmError(f"pairs must be at least 1, got {pairs}")


def _check_all(
    sources: Sequence[Source], check: Callable[[Source], CheckedCase], *, where: Path, classes: ClassMap
) -> list[CheckedCase]:
    """Check every case; the unknown labels of all cases are reported together."""
    checked: list[CheckedCase] = []
    refused: list[UnknownLabelsError] = []
    for source in tqdm(sources, desc="checking", unit="image", disable=None):
        try:
            checked.append(check(source))
        except UnknownLabelsError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        unknown: Counter[str | None] = Counter()
        for one in refused:
            unknown.update(one.labels)
        raise UnknownLabelsError(f"{where} ({len(refused)} files)", unknown, label_table(classes))
    return checked


def _generated(out: Path) -> frozenset[Path]:
    """Find annotation files that an earlier preparation wrote (by the data list in `out`), unchanged since."""
    try:
        entries: Sequence[dict[str, Any]] = json.loads((out / FILE_NAME).read_text(encoding="utf-8"))["cases"]
        ours = [entry for entry in entries if entry.get("points_source") in ("cleaned", "sampled")]
        files = {out / entry["points"]: entry["sha256"]["points"] for entry in ours}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return frozenset()  # no earlier data list, or an unusable one
    return frozenset(file.resolve() for file, digest in files.items() if file.is_file() and sha256(file) == digest)


def _points_path(case: CheckedCase, out: Path) -> Path:
    return out / "points" / f"{case.source.case_id}.geojson"


def _mask_path(case: CheckedCase, out: Path) -> Path:
    return out / "masks" / f"{case.source.case_id}.png"


def _check_overwrites(checked: Sequence[CheckedCase], out: Path) -> None:
    """Refuse to overwrite one of the user's files."""
    own = {file.resolve() for case in checked for file in (case.source.points_file, case.source.mask) if file}
    for case in checked:
        written = [_points_path(case, out)] if case.origin in ("cleaned", "sampled") else []
        written += [_mask_path(case, out)] if case.rewritten else []
        for file in written:
            if file.resolve() in own:
                raise CvmError(f"{file} is your own file and would be replaced: give another --output")


def _write_case(
    case: CheckedCase, fold: int, out: Path, classes: ClassMap | None, colours: Mapping[int, tuple[int, int, int]]
) -> Case:
    """Write the points and mask of one case where needed, and hash its files."""
    source = case.source
    points, mask = source.points_file if case.origin == "file" else None, source.mask
    if case.annotations is not None and case.origin != "file":
        points = _points_path(case, out)
        shown = {**COLOURS, **case.annotations.colours, **colours}
        write_geojson(points, case.annotations, names=list(class_names(classes)), colours=shown)
    if case.rewritten:
        mask = _mask_path(case, out)
        write_png(mask, mapped_mask(source, classes=classes))
    files = {"image": source.image, "points": points, "mask": mask, "novel_mask": source.novel}
    return Case(
        case_id=source.case_id,
        patient_id=source.patient_id,
        image=source.image.resolve(),
        points=points.resolve() if points else None,
        mask=mask.resolve() if mask else None,
        mpp=case.mpp,
        sha256={name: sha256(file) for name, file in files.items() if file},
        fold=fold,
        extra=({"points_source": case.origin} if case.origin else {}) | dict(source.columns),
        novel_mask=source.novel.resolve() if source.novel else None,
    )


def _image_warnings(checked: Sequence[CheckedCase]) -> list[str]:
    """Collect the warnings about images, at most the first ten."""
    found = [sentence for case in checked for sentence in case.warnings]
    more = [f"{len(found) - SHOWN} more such warnings about images"] if len(found) > SHOWN else []
    odd = [case for case in checked if case.unbelieved is not None]
    if odd:
        more.append(
            f"the um/px of {len(odd)} of {len(checked)} images are none of a microscope and not used, the first is "
            f"{odd[0].source.image.name} with {odd[0].unbelieved:.4g}; the column mpp of cases.csv says the right ones"
        )
    return [*found[:SHOWN], *more]


def _same_images(cases: Sequence[Case]) -> list[str]:
    """Warn about identical image files with different names in different folds."""
    by_digest: dict[str, list[Case]] = {}
    for case in cases:
        by_digest.setdefault(case.sha256["image"], []).append(case)
    warnings = []
    for twins in by_digest.values():
        if len({case.patient_id for case in twins}) > 1:
            names = ", ".join(case.image.name for case in twins[:5]) + ", ..." * (len(twins) > 5)
            warnings.append(f"the same image under several names and patients: {names}; remove all but one")
    return warnings
