"""The data set of a comparison: used as prepared, with other folds, or prepared from a user's folder."""

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
    """The data set of all runs, and a sentence about its origin."""

    folder: Path
    note: str


def comparison_dataset(folder: Path, *, output: Path, folds: int, pairs: int) -> Prepared:
    """Find a prepared data set with this number of folds, or create one in `output/dataset`; `folder` is only read.

    A data list with another number of folds is split anew, by patient; a folder without a data list is prepared as by
    `cvm-monai prepare`. Both are deterministic as long as the folder does not change.

    Raises:
        CvmError: fewer patients than folds, more than two classes, or an invalid folder.
    """
    target = output / "dataset"
    if not (folder / FILE_NAME).is_file():
        report = prepare(folder, out=target, pairs=pairs, folds=folds)
        _check_tested(report.datalist)
        return Prepared(target, str(report))
    datalist = read_datalist(folder)
    if len(datalist.classes) > 2:
        raise CvmError(
            f"{datalist.path} has {len(datalist.classes)} classes and a comparison supports two: train and evaluate "
            "each method by the bundle instead"
        )
    _check_tested(datalist)
    if datalist.folds == tuple(range(folds)):
        return Prepared(folder.resolve(), f"{len(datalist.cases)} cases in {folds} folds, as prepared in {folder}")
    fold_of = assign_folds([case.patient_id for case in datalist.cases], folds=folds)
    cases = [replace(case, fold=fold) for case, fold in zip(datalist.cases, fold_of, strict=True)]
    write_datalist(target / FILE_NAME, cases)
    return Prepared(target, f"{len(cases)} cases of {folder}, which has {len(datalist.folds)} folds, in {folds} folds")


def _check_tested(datalist: DataList) -> None:
    """Refuse a data list without test cases.

    Raises:
        CvmError: the message names the data list.
    """
    if not datalist.tested:
        raise CvmError(
            f"{datalist.path} was prepared without a test fold, so that there is nothing to compare by: it needs three "
            "images, or better three patients"
        )


def check_pairs(datalist: DataList, *, pairs: int) -> tuple[str, ...]:
    """Refuse data in which no image has this many points of both classes; returns a note if some images have fewer.

    Images with fewer points are used with those they have; regions are used whole, whatever the number of pairs.

    Raises:
        CvmError: the message names the image with the most points, and their number.
    """
    counts = {}
    for case in datalist.cases:
        points = read_annotations(case.points).points if case.points else ()
        counts[case.case_id] = [sum(point.label == label for point in points) for label in (TARGET, BACKGROUND)]
    best = max(counts, key=lambda case_id: min(counts[case_id]))
    target, background = counts[best]
    if min(target, background) < pairs:
        raise CvmError(
            f"{pairs} pairs are requested, and no image of {datalist.path} has {pairs} target and {pairs} background "
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
    """Refuse folds without usable training, validation or test cases, before anything is trained.

    For every seed, every fold needs training points of both classes, validation points, and test masks that together
    hold both classes.

    Raises:
        CvmError: the message names the fold and what it lacks.
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
    """Check that the test masks hold both classes, without which no score is defined."""
    masks = [case.mask for case in cases if case.mask]
    if not masks:
        raise CvmError(f"fold {fold}: none of the {len(cases)} test images has a mask to score against: add masks")
    found: set[bool] = set()
    for mask in masks:
        found |= {bool(value) for value in np.unique(read_mask(mask) != 0)}
        if len(found) == 2:
            return
    lacking = "target" if True not in found else "background"
    raise CvmError(f"fold {fold}: the masks of its {len(masks)} test images hold no {lacking}: use fewer folds")
