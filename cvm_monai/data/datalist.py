"""Read and write datalist.json: the cases of a data set, with files, patient and fold."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvm_monai.annotations import BACKGROUND, TARGET
from cvm_monai.errors import CvmError
from cvm_monai.files import read_json, shown, write_text

VERSION = 1
FILE_NAME = "datalist.json"
CLASSES: Mapping[str, int] = {"background": BACKGROUND, "target": TARGET}
"""The classes of every data list; further foreground classes are numbered from 2."""
FILE_KEYS = ("image", "points", "mask", "novel_mask")
REQUIRED_KEYS = ("case_id", "patient_id", "image", "points", "sha256", "fold")
KNOWN_KEYS = ("case_id", "patient_id", *FILE_KEYS, "mpp", "sha256", "fold")


@dataclass(frozen=True)
class Case:
    """One image with its annotations and metadata.

    Attributes:
        points: annotation file; None for an image without annotations.
        mask: label image, 0 = background; None where there is none.
        mpp: micrometres per pixel; None where unknown.
        sha256: hash of each file, by ``image``, ``points``, ``mask``, ``novel_mask``.
        extra: further entries of the case, such as the columns of cases.csv.
        novel_mask: mask of regions unlike anything annotated, 0 = elsewhere; None where there is none.
    """

    case_id: str
    patient_id: str
    image: Path
    points: Path | None
    mask: Path | None
    mpp: float | None
    sha256: Mapping[str, str]
    fold: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    novel_mask: Path | None = None


@dataclass(frozen=True)
class DataList:
    """The cases of a data set, in the order of the file, and the file itself.

    Attributes:
        tested: whether each fold is the test part of one run; otherwise there is one fold, and all its cases train.
    """

    classes: Mapping[str, int]
    cases: tuple[Case, ...]
    path: Path
    tested: bool = True

    @property
    def folds(self) -> tuple[int, ...]:
        """The fold numbers that occur, ascending."""
        return tuple(sorted({case.fold for case in self.cases}))


def read_datalist(folder_or_file: str | Path) -> DataList:
    """Read and check a data list: every file exists, no duplicate case, every patient in one fold.

    Args:
        folder_or_file: datalist.json, or its folder.

    Raises:
        CvmError: any error, with the file and the case; a missing data list, with the command that makes it.

    Example:
        >>> import cvm_monai as cvm
        >>> data = cvm.read_datalist("data/phantom")
        >>> [case.case_id for case in data.cases][:2]
        ['case_000', 'case_001']
    """
    path = Path(folder_or_file)
    if path.suffix.lower() != ".json":
        path = path / FILE_NAME
    if not path.is_file():
        raise CvmError(_missing(path))
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("cases"), list):
        raise CvmError(f'{path}: not a data list; an object with "version", "classes" and "cases" is expected')
    if data.get("version") != VERSION:
        raise CvmError(
            f"{path}: version {data.get('version')!r} is not supported, only {VERSION}; prepare the data again"
        )
    classes = _classes(data.get("classes"), path)
    cases = tuple(_case(entry, number, path) for number, entry in enumerate(data["cases"], start=1))
    _check_together(cases, path)
    return DataList(classes, cases, path.resolve(), data.get("tested") is not False)


def write_datalist(
    path: str | Path, cases: Iterable[Case], *, classes: Mapping[str, int] = CLASSES, tested: bool = True
) -> DataList:
    """Write a data list under a temporary name and rename it; files below its folder have relative paths.

    Args:
        classes: number of each class by name: background 0, target 1, further ones from 2 without a gap.
        tested: see `DataList`.

    Raises:
        CvmError: no case, a duplicate case or a patient in two folds; then nothing is written.
    """
    path = Path(path).resolve()
    cases = tuple(cases)
    _check_together(cases, path)
    entries = [_entry(case, path.parent) for case in cases]
    data = {"version": VERSION, "classes": dict(classes)} | ({} if tested else {"tested": False}) | {"cases": entries}
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return DataList(dict(classes), cases, path, tested)


def _classes(found: Any, path: Path) -> dict[str, int]:
    """Check the classes of a data list; return them in the order of their numbers."""
    numbers = list(found.values()) if isinstance(found, dict) else []
    sound = len(numbers) >= len(CLASSES) and all(type(number) is int for number in numbers)
    if not sound or sorted(numbers) != list(range(len(numbers))) or not CLASSES.items() <= found.items():
        raise CvmError(
            f"{path}: classes must be {json.dumps(CLASSES)}, found {json.dumps(found)[:60]}; "
            "further classes are numbered from 2 without gaps"
        )
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def _missing(path: Path) -> str:
    """Make the message for a missing data list, with the remedy."""
    folder = path.parent
    if folder.name == "phantom" and folder.absolute().parent.name == "data":
        return f"{path} does not exist: make the example data set by `cvm-monai phantom data/phantom`"
    return f"{path} does not exist: make it by `cvm-monai prepare {folder} --output OUT` and give OUT as dataset_dir"


def _case(entry: Any, number: int, path: Path) -> Case:
    """Parse and check one entry."""
    if not isinstance(entry, dict):
        raise CvmError(f"{path}, case {number}: an object is expected, found {json.dumps(entry)[:60]}")
    where = f"{path}, case {entry.get('case_id') or number}"
    for key in REQUIRED_KEYS:
        if key not in entry:
            raise CvmError(f"{where}: the key {key!r} is missing")
    for key in ("case_id", "patient_id", "image"):
        if not isinstance(entry[key], str) or not entry[key]:
            raise CvmError(f"{where}: {key} must be text, found {json.dumps(entry[key])[:60]}")
    fold, mpp = entry["fold"], entry.get("mpp")
    if not isinstance(fold, int) or isinstance(fold, bool) or fold < 0:
        raise CvmError(f"{where}: fold must be a whole number from 0, found {json.dumps(fold)[:60]}")
    if mpp is not None and (not isinstance(mpp, int | float) or isinstance(mpp, bool) or not mpp > 0):
        raise CvmError(f"{where}: mpp must be a number above 0, found {json.dumps(mpp)[:60]}")
    if not isinstance(entry["sha256"], dict):
        raise CvmError(f"{where}: sha256 must be an object, found {json.dumps(entry['sha256'])[:60]}")
    image, points, mask, novel_mask = (_file(entry.get(key), key, where, path.parent) for key in FILE_KEYS)
    assert image is not None  # a non-empty text, see above
    return Case(
        case_id=entry["case_id"],
        patient_id=entry["patient_id"],
        image=image,
        points=points,
        mask=mask,
        mpp=None if mpp is None else float(mpp),
        sha256=entry["sha256"],
        fold=fold,
        extra={key: value for key, value in entry.items() if key not in KNOWN_KEYS},
        novel_mask=novel_mask,
    )


def _file(name: Any, key: str, where: str, folder: Path) -> Path | None:
    """Return the absolute path of one of a case's files."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise CvmError(f"{where}: {key} must be a path, found {json.dumps(name)[:60]}")
    try:
        file = (folder / name).resolve()
        found = file.is_file()
    except (OSError, ValueError) as error:  # an invalid file name: too long, or with a null character
        reason = getattr(error, "strerror", None) or error
        raise CvmError(f"{where}: the {key} file {shown(name)} cannot be found ({reason})") from None
    if not found:
        raise CvmError(f"{where}: the {key} file {file} does not exist; prepare the data again if it has moved")
    return file


def _check_together(cases: tuple[Case, ...], path: Path) -> None:
    """Check the conditions on all cases together."""
    if not cases:
        raise CvmError(f"{path}: the list of cases is empty")
    seen: set[str] = set()
    fold_of: dict[str, int] = {}
    for case in cases:
        if case.case_id in seen:
            raise CvmError(f"{path}: the case {case.case_id} appears twice")
        seen.add(case.case_id)
        fold = fold_of.setdefault(case.patient_id, case.fold)
        if fold != case.fold:
            raise CvmError(
                f"{path}: patient {case.patient_id} is in the folds {fold} and {case.fold} (case {case.case_id}); "
                "a patient must be in one"
            )


def _entry(case: Case, folder: Path) -> dict[str, Any]:
    """Convert a case to its entry in the file."""
    entry: dict[str, Any] = {"case_id": case.case_id, "patient_id": case.patient_id}
    for key in FILE_KEYS:
        file: Path | None = getattr(case, key)
        if file is not None:
            file = file.resolve()
            entry[key] = (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
        elif key == "points":
            entry[key] = None
    if case.mpp is not None:
        entry["mpp"] = case.mpp
    return entry | {"sha256": dict(case.sha256), "fold": case.fold} | dict(case.extra)
