"""The data set of a comparison: as it is prepared, with other folds, or prepared from a user's folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cvm_monai.annotations import BACKGROUND, TARGET, read_annotations
from cvm_monai.data.datalist import FILE_NAME, Case, DataList, read_datalist, write_datalist
from cvm_monai.data.folds import assign_folds, check_trainable, split
from cvm_monai.data.prepare import prepare
from cvm_monai.errors import CvmError
from cvm_monai.slides import read_mask


@dataclass(frozen=True)
class Prepared:
    """The data set that all runs take, and a sentence that says where it comes from."""

    folder: Path
    note: str


def comparison_dataset(folder: Path, *, output: Path, folds: int, pairs: int) -> Prepared:
    """A prepared data set with as many folds, or one made in `output/dataset`; `folder` is only read.

    A data list with another number of folds is dealt out anew, by patient; a folder without a data list is prepared as
    by `cvm-monai prepare`. Both give the same again as long as the folder stays the same.

    Raises:
        CvmError: fewer patients than folds, more than two classes, or whatever is wrong with the folder.
    """
    target = output / "dataset"
    if not (folder / FILE_NAME).is_file():
        report = prepare(folder, out=target, pairs=pairs, folds=folds)
        _check_tested(report.datalist)
        return Prepared(target, str(report))
    datalist = read_datalist(folder)
    if len(datalist.classes) > 2:
        raise CvmError(
            f"{datalist.path} has {len(datalist.classes)} classes and a comparison knows two: train and evaluate each "
            "method by the bundle instead"
        )
    _check_tested(datalist)
    if datalist.folds == tuple(range(folds)):
        return Prepared(folder.resolve(), f"{len(datalist.cases)} cases in {folds} folds, as prepared in {folder}")
    fold_of = assign_folds([case.patient_id for case in datalist.cases], folds=folds)
    cases = [replace(case, fold=fold) for case, fold in zip(datalist.cases, fold_of, strict=True)]
    write_datalist(target / FILE_NAME, cases)
    return Prepared(target, f"{len(cases)} cases of {folder}, which has {len(datalist.folds)} folds, in {folds} folds")


def _check_tested(datalist: DataList) -> None:
    """Refuse a data list that is all training.

    Raises:
        CvmError: naming it.
    """
    if not datalist.tested:
        raise CvmError(
            f"{datalist.path} was prepared without a test fold, so that there is nothing to compare by: it needs three "
            "images, or better three patients"
        )


def check_pairs(datalist: DataList, *, pairs: int) -> tuple[str, ...]:
    """Refuse data in which no image has so many points of both classes; a sentence where some images have fewer.

    Images with fewer points are used with what they have; regions are used whole, whatever the number of pairs.

    Raises:
        CvmError: the image with the most, and what it has.
    """
    counts = {}
    for case in datalist.cases:
        points = read_annotations(case.points).points if case.points else ()
        counts[case.case_id] = [sum(point.label == label for point in points) for label in (TARGET, BACKGROUND)]
    best = max(counts, key=lambda case_id: min(counts[case_id]))
    target, background = counts[best]
    if min(target, background) < pairs:
        raise CvmError(
            f"{pairs} pairs are asked for, and no image of {datalist.path} has {pairs} target and {pairs} background "
            f"points: the most has {best}, {target} target and {background} background; give lower --values, or "
            "annotate more"
        )
    fewer = [case_id for case_id, found in counts.items() if min(found) < pairs]
    if not fewer:
        return ()
    names = ", ".join(fewer[:3]) + ", ..." * (len(fewer) > 3)
    return (
        f"{len(fewer)} of {len(counts)} images have fewer than {pairs} points of a class, and are used with what they "
        f"have ({names}).",
    )


def check_folds(datalist: DataList, *, folds: Sequence[int], seeds: int, needs_masks: bool) -> None:
    """Refuse folds that cannot teach or cannot be tested, before anything is trained.

    Every fold needs points of both classes to train on and points to validate on, for every seed, and test masks that
    hold both classes together.

    Raises:
        CvmError: the fold, and what it lacks.
    """
    for fold in folds:
        for seed in range(seeds):
            parts = split(datalist, fold=fold, seed=seed)
            try:
                check_trainable(parts)
            except ValueError as error:
                raise CvmError(f"fold {fold}, seed {seed}: {error}") from None
            if needs_masks and not any(case.mask for case in parts.train):
                raise CvmError(f"fold {fold}, seed {seed}: full supervision needs masks, no training case has one")
        _check_test(parts.test, fold)


def _check_test(cases: Sequence[Case], fold: int) -> None:
    """Both classes must stand in the test masks, or there is nothing to tell apart."""
    masks = [case.mask for case in cases if case.mask]
    if not masks:
        raise CvmError(f"fold {fold}: none of the {len(cases)} test images has a mask to score against: add masks")
    found: set[bool] = set()
    for mask in masks:
        found |= {bool(value) for value in np.unique(read_mask(mask) != 0)}
        if len(found) == 2:
            return
    lacking = "target" if True not in found else "background"
    raise CvmError(
        f"fold {fold}: the masks of its {len(masks)} test images hold no {lacking}: deal the patients into fewer folds"
    )
