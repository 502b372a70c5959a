"""Convert the cases of one part of a fold to plain records for MONAI's datasets."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from cvm_monai.data.datalist import CLASSES, FILE_NAME, Case, DataList, read_datalist
from cvm_monai.data.folds import case_labels, check_trainable, split
from cvm_monai.errors import CvmError

Part = Literal["train", "validation", "test"]

logger = logging.getLogger(__name__)


def case_records(*, dataset_dir: str, part: Part, fold: int, seed: int) -> list[dict[str, Any]]:
    """Make records {case_id, patient_id, image, points, mask, novel_mask, mpp} of a part; paths as text or None.

    With more than two classes, each record has `classes` too, number by name. Cases without annotations are left out of
    training and validation: no method learns from them.

    Raises:
        CvmError: an unknown part, or as `read_datalist` and `split`.
    """
    if part not in get_args(Part):
        raise CvmError(f"part must be one of {get_args(Part)}, got {part!r}")
    datalist = read_datalist(dataset_dir)
    if part == "test" and not datalist.tested:
        raise CvmError(f"{datalist.path} was prepared without a test fold: there is nothing to score the training on")
    cases = getattr(split(datalist, fold=fold, seed=seed), part)
    if part != "test":
        cases = [case for case in cases if case_labels(case, datalist.classes)]
    return [case_record(case, datalist.classes) for case in cases]


def class_names(dataset_dir: str) -> list[str]:
    """Return the names of a data list's classes in the order of their numbers, background first.

    Called before a run's checks, which report errors of the data list; for an invalid list, the two standard classes.
    """
    try:
        found = json.loads((Path(dataset_dir) / FILE_NAME).read_text(encoding="utf-8"))["classes"]
        names = sorted(found, key=found.__getitem__)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return list(CLASSES)
    return names if len(names) >= len(CLASSES) else list(CLASSES)


def class_count(dataset_dir: str) -> int:
    """Return the number of a data list's classes, including background; see `class_names`."""
    return len(class_names(dataset_dir))


def case_record(case: Case, classes: Mapping[str, int] = CLASSES) -> dict[str, Any]:
    """Convert one case to a record."""
    further = {"classes": dict(classes)} if len(classes) > 2 else {}
    return further | {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "image": str(case.image),
        "points": None if case.points is None else str(case.points),
        "mask": None if case.mask is None else str(case.mask),
        "novel_mask": None if case.novel_mask is None else str(case.novel_mask),
        "mpp": case.mpp,
    }


def check_split(dataset_dir: str, *, fold: int, seed: int, supervision_needs_masks: bool = False) -> DataList:
    """Read the data list, refuse a fold that cannot be trained on, and log the sizes of its parts.

    Raises:
        CvmError: as `read_datalist`, `split` and `check_trainable`; no training mask where masks are needed.
    """
    datalist = read_datalist(dataset_dir)
    parts = split(datalist, fold=fold, seed=seed)
    check_trainable(parts)
    if supervision_needs_masks and not any(case.mask for case in parts.train):
        raise CvmError(f"{datalist.path}: full supervision needs masks, no training case has one: use another method")
    counts = {name: len(getattr(parts, name)) for name in get_args(Part)}
    classes = [len(case_labels(case, datalist.classes)) for case in parts.train]
    logger.info(
        "fold %d: %d training, %d validation, %d test images; of the training images %d have points of one class only "
        "(no pseudo-label) and %d have none (left out)",
        fold,
        *counts.values(),
        classes.count(1),
        classes.count(0),
    )
    return datalist
