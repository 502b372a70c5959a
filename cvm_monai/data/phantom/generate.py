"""The phantom as a folder: images, exact masks, novel regions and the table of cases."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cvm_monai.data.phantom.case import MAX_SIZE, MIN_SIZE, PhantomCase, draw_case
from cvm_monai.data.phantom.stain import Patient, draw_patient
from cvm_monai.errors import CvmError
from cvm_monai.files import replacing_entries

__all__ = ["PHANTOM_CLASSES", "PhantomSummary", "generate_phantom"]

PHANTOM_CLASSES: Mapping[int, Mapping[str, int]] = {2: {}, 3: {"lymphoid": 2}}
"""By the number of a phantom's classes: the class map of those beyond target and background."""

_GENERATOR = "cvm_monai phantom"
_VERSION = 1
"""Raised whenever the same arguments draw other images."""
_FOLDERS = ("images", "masks", "novel")
_TABLE = "cases.csv"
_STAMP = "phantom.json"
_ENTRIES = (*_FOLDERS, _TABLE, _STAMP)
"""All that is written, the stamp last: what it stands beside is complete."""
_AGGREGATES = "aggregate_fraction"
"""A further column of the table where there are three classes."""
_COLUMNS = ("case_id", "patient_id", "mpp", "target_fraction", "novel_fraction", "novel", "sparse")


@dataclass(frozen=True)
class PhantomSummary:
    """What was written.

    The folder, how many cases of how many patients, the mean fraction of target pixels, and how many cases have novel
    regions.
    """

    folder: Path
    cases: int
    patients: int
    target_fraction: float
    novel_cases: int


@dataclass(frozen=True)
class _Stamp:
    """The content of ``phantom.json``: what drew the folder's images, and with which arguments."""

    generator: str
    version: int
    cases: int
    size: int
    seed: int
    patients: int | None
    classes: int = 2

    def content(self) -> dict[str, object]:
        """As it is written: what two classes need, and the number of classes where there are more."""
        content = asdict(self)
        if self.classes == 2:
            del content["classes"]
        return content


def generate_phantom(
    out: Path, *, cases: int = 24, size: int = 128, seed: int = 0, patients: int | None = None, classes: int = 2
) -> PhantomSummary:
    """Draws synthetic H&E images with exact masks into the folder ``out``.

    Writes ``images/case_000.png`` (RGB), ``masks/case_000.png`` (255 = target, 0 = background),
    ``novel/case_000.png`` (255 = fold, ink, necrosis or blood, always background, never to be annotated), ``cases.csv``
    (case_id, patient_id, mpp, the fractions of target and novel pixels, the kinds of novel and sparse regions) and
    ``phantom.json`` (the arguments). Equal arguments write equal bytes, and a case depends on ``seed``, ``size``,
    ``patients`` and its number alone, so raising ``cases`` (from 1) only adds some. ``size`` (from 64, in pixels):
    larger images hold more structures, not larger ones. ``patients``: how many share the cases in turn (1 to
    ``cases``); without it each patient has two or three neighbouring cases. ``classes``: with 3, lymphoid aggregates
    are a second foreground class (`PHANTOM_CLASSES`), each image has some, and the masks hold 0 (background), 1
    (target) and 2 (aggregates).

    An earlier phantom in ``out`` is replaced once the new one is complete; other files beside it are kept.

    Raises ``CvmError`` for arguments out of range, for an ``out`` that cannot be written or that holds files of
    other origin, and where files beside an earlier phantom (points, say) would no longer belong to its images.

    Example:
        >>> import cvm_monai as cvm
        >>> from pathlib import Path
        >>> summary = cvm.generate_phantom(Path("drawn"), cases=2, size=64)
        >>> sorted(path.name for path in Path("drawn/images").iterdir())
        ['case_000.png', 'case_001.png']
    """
    _check_arguments(cases=cases, size=size, seed=seed, patients=patients)
    if classes not in PHANTOM_CLASSES:
        raise CvmError(f"A phantom has {' or '.join(map(str, PHANTOM_CLASSES))} classes, not {classes}.")
    out, stamp = Path(out), _Stamp(_GENERATOR, _VERSION, cases, size, seed, patients, classes)
    try:
        _check_out(out, stamp)
        existed = out.is_dir()
        out.mkdir(parents=True, exist_ok=True)
        try:
            with replacing_entries(out, _ENTRIES) as staging:
                summary = _write(staging, out, stamp)
        finally:
            if not existed and not any(out.iterdir()):
                out.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CvmError(f"The phantom cannot be written to {out} ({reason}): give another folder.") from error
    return summary


def _check_arguments(*, cases: int, size: int, seed: int, patients: int | None) -> None:
    if cases < 1:
        raise CvmError(f"A phantom of {cases} cases is empty: give at least 1 case.")
    if size < MIN_SIZE:
        raise CvmError(f"A phantom image of {size} px is too small to hold both classes: give at least {MIN_SIZE}.")
    if size > MAX_SIZE:
        raise CvmError(f"A phantom image of {size} px is too large to draw: give at most {MAX_SIZE}.")
    if seed < 0:
        raise CvmError(f"The phantom's seed is {seed}: give an integer of at least 0.")
    if patients is not None and not 1 <= patients <= cases:
        raise CvmError(f"{patients} patients cannot share {cases} phantom cases: give 1 to {cases} patients.")


def _check_out(out: Path, stamp: _Stamp) -> None:
    """Refuses a folder in which writing this phantom would destroy or orphan files that are not a phantom's."""
    present = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")) if out.is_dir() else []
    if not present:
        return
    earlier = _read_stamp(out / _STAMP)
    if earlier is None:
        raise CvmError(f"{out} holds files that are not a phantom ({present[0]}): give a new or an empty folder.")
    for folder in (out / name for name in _FOLDERS if (out / name).is_dir()):
        own = {f"{_case_id(number)}.png" for number in range(earlier.cases)}
        if foreign := sorted(entry.name for entry in folder.iterdir() if entry.name not in own):
            raise CvmError(f"{folder} holds {foreign[0]}, which is not part of the phantom: move it elsewhere first.")
    beside = [name for name in present if name not in _ENTRIES]
    if beside and earlier != stamp:
        raise CvmError(
            f"{out} holds {beside[0]} beside a phantom drawn with other arguments: remove it or give a new folder."
        )


def _read_stamp(path: Path) -> _Stamp | None:
    """The stamp of an earlier phantom; None where there is none that can be read."""
    try:
        stamp = _Stamp(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return stamp if stamp.generator == _GENERATOR and isinstance(stamp.cases, int) else None


def _case_id(number: int) -> str:
    return f"case_{number:03d}"


def _patient_of(number: int, stamp: _Stamp) -> Patient:
    """The patient of a case: in turn among a given number, otherwise three cases, two cases, three cases, ..."""
    index = 2 * number // 5 if stamp.patients is None else number % stamp.patients
    return draw_patient(f"patient_{index:02d}", _stream(stamp.seed, 0, index))


def _stream(seed: int, kind: int, index: int) -> np.random.Generator:
    """Independent random numbers for each patient (kind 0) and each case (kind 1)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, index)))


def _write(folder: Path, out: Path, stamp: _Stamp) -> PhantomSummary:
    """Writes the whole phantom into the empty ``folder``; the summary names ``out``, where it will end."""
    for name in _FOLDERS:
        (folder / name).mkdir()
    rows = []
    for number in range(stamp.cases):
        patient = _patient_of(number, stamp)
        case = draw_case(stamp.size, patient, _stream(stamp.seed, 1, number), classes=stamp.classes)
        pictures = (case.image, _mask_of(case), _as_grey(case.novel))
        for name, picture in zip(_FOLDERS, pictures, strict=True):
            Image.fromarray(picture).save(folder / name / f"{_case_id(number)}.png")
        rows.append(_row(number, patient, case))
    with (folder / _TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([_COLUMNS if stamp.classes == 2 else (*_COLUMNS, _AGGREGATES), *rows])
    (folder / _STAMP).write_text(json.dumps(stamp.content(), indent=2) + "\n", encoding="utf-8")
    return PhantomSummary(
        folder=out,
        cases=stamp.cases,
        patients=len({row[1] for row in rows}),
        target_fraction=float(np.mean([float(row[3]) for row in rows])),
        novel_cases=sum(bool(row[5]) for row in rows),
    )


def _as_grey(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 255, 0).astype(np.uint8)


def _mask_of(case: PhantomCase) -> np.ndarray:
    """255 = target where there are two classes, class numbers where there are three."""
    if case.aggregates is None:
        return _as_grey(case.mask)
    return (case.mask + 2 * case.aggregates).astype(np.uint8)


def _row(number: int, patient: Patient, case: PhantomCase) -> tuple[str, ...]:
    """One line of ``cases.csv``, in the order of ``_COLUMNS``."""
    measures = (patient.mpp, case.mask.mean(), case.novel.mean())
    kinds = ("+".join(case.novel_kinds), "+".join(case.sparse_kinds))
    further = () if case.aggregates is None else (f"{case.aggregates.mean():.4f}",)
    return (_case_id(number), patient.patient_id, *(f"{value:.4f}" for value in measures), *kinds, *further)
