"""Assign folds by patient, and split a data list into training, validation and test."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cvm_monai.annotations import BACKGROUND, read_annotations
from cvm_monai.data.datalist import CLASSES, Case, DataList
from cvm_monai.errors import CvmError

SMALLEST_DEALT = 3
"""Smallest number of images of a single patient that are divided into folds: one each to train, validate and test."""

HELD_OUT = 5
"""Without a test part, one image in this many is used for validation."""


@dataclass(frozen=True)
class Split:
    """The parts of one fold; no patient is in two of them where there is a test. `classes` is that of the data list."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    classes: Mapping[str, int] = field(default_factory=lambda: dict(CLASSES))


@dataclass(frozen=True)
class Dealt:
    """The assignment of cases to folds.

    Attributes:
        patient_ids: patient of each case; the case id where a single patient is divided by image.
        folds: fold of each case.
        tested: see `DataList`.
        warnings: messages for the user.
    """

    patient_ids: tuple[str, ...]
    folds: tuple[int, ...]
    tested: bool = True
    warnings: tuple[str, ...] = ()


def deal(case_ids: Sequence[str], patient_ids: Sequence[str], *, folds: int, seed: int = 0) -> Dealt:
    """Assign cases to folds: by patient; with one patient by image, or without a test.

    A single patient's images are divided as if each were a patient. If they are too few, or `folds` is 1, all cases
    train and none is tested; `folds` = 1 is also allowed for two patients, since a fold would leave only one of them.

    Args:
        case_ids, patient_ids: id and patient of each case.
        folds, seed: as in `assign_folds`.

    Raises:
        CvmError: as `assign_folds`, or one patient with too few images for so many folds.
    """
    patients, count = sorted(set(patient_ids)), len(case_ids)
    if len(patients) > 2 or (len(patients) == 2 and folds != 1):
        return Dealt(tuple(patient_ids), tuple(assign_folds(patient_ids, folds=folds, seed=seed)))
    if folds < 1:
        raise CvmError(f"folds must be at least 1, got {folds}")
    whose = f"all {count} images come" if count > 1 else "the only image comes"
    whose += f" from the patient{'s' * (len(patients) > 1)} {' and '.join(patients)}"
    if folds == 1 or count < SMALLEST_DEALT:
        why = "" if folds == 1 else ", which is too little for folds"
        remedy = "" if folds == 1 else "; more images, or smaller tiles (--tile), make folds possible"
        sentence = f"{whose}{why}: there is a training and no test, so that no score says how good it is{remedy}"
        return Dealt(tuple(patient_ids), (0,) * count, False, (sentence,))
    if count < folds or count - -(-count // folds) < 2:  # each fold leaves one image to train and one to validate on
        raise CvmError(
            f"{whose}, which cannot be divided into {folds} folds: give --folds {SMALLEST_DEALT}, or --folds 1 to "
            "train on all of them without a test"
        )
    sentence = (
        f"{whose}: the folds are dealt by image, so that test scores are too good and say nothing about other "
        "patients; --folds 1 trains on all of them without a test"
    )
    return Dealt(tuple(case_ids), tuple(assign_folds(case_ids, folds=folds, seed=seed)), True, (sentence,))


def assign_folds(patient_ids: Sequence[str], *, folds: int = 4, seed: int = 0) -> list[int]:
    """Assign each case a fold, all cases of a patient the same, with about equally many cases in each fold.

    The patients are shuffled, sorted by their number of cases, and each is added to the fold with the fewest cases.

    Args:
        patient_ids: the patient of each case; their order does not matter.
        folds: number of folds, from 2; raising it leaves more cases for training and fewer for each test.
        seed: another seed gives another order of patients with equally many cases.

    Raises:
        CvmError: fewer than two folds, or fewer patients than folds.
    """
    sizes = Counter(patient_ids)
    if folds < 2:
        raise CvmError(f"folds must be at least 2, got {folds}")
    if len(sizes) < folds:
        raise CvmError(
            f"{len(sizes)} patient(s) cannot be spread over {folds} folds: a patient is never split; use fewer folds "
            "(--folds)"
        )
    patients = sorted(sizes)
    np.random.default_rng(seed).shuffle(patients)
    patients.sort(key=lambda patient: -sizes[patient])  # stable: equal sizes stay shuffled
    filled = [0] * folds
    fold_of: dict[str, int] = {}
    for patient in patients:
        fold_of[patient] = filled.index(min(filled))
        filled[fold_of[patient]] += sizes[patient]
    return [fold_of[patient] for patient in patient_ids]


def split(datalist: DataList, *, fold: int, seed: int = 0) -> Split:
    """Split cases: test = those of `fold`; validation = a seeded fifth of the other patients; train = the rest.

    For a data list that is not tested the test part is empty, and a fifth of its images is validation; if there are
    fewer than five, all of them are in both parts.

    Args:
        fold: the test fold.
        seed: chooses the validation patients; the test part does not depend on it.

    Raises:
        CvmError: a fold that the list lacks, or too few other patients for both training and validation.
    """
    if fold not in datalist.folds:
        known = ", ".join(map(str, datalist.folds))
        raise CvmError(f"fold {fold} does not exist in {datalist.path}: use one of {known}")
    if not datalist.tested:
        return _untested(datalist, seed)
    others = [case for case in datalist.cases if case.fold != fold]
    patients = sorted({case.patient_id for case in others})
    if len(patients) < 2:
        raise CvmError(
            f"{datalist.path}: training and validation need two patients beside fold {fold}, there is "
            f"{len(patients)}: {remedy(datalist)}"
        )
    np.random.default_rng(seed).shuffle(patients)
    chosen = set(patients[: max(1, round(len(patients) / 5))])
    return Split(
        train=tuple(case for case in others if case.patient_id not in chosen),
        validation=tuple(case for case in others if case.patient_id in chosen),
        test=tuple(case for case in datalist.cases if case.fold == fold),
        classes=datalist.classes,
    )


def remedy(datalist: DataList) -> str:
    """Make the hint that says how to get folds."""
    patients = {case.patient_id for case in datalist.cases}
    if len(patients) > len(datalist.folds):
        return "add patients, or prepare with more folds"
    return "add patients, three are needed" + "; --folds 1 of prepare trains on all without a test" * (
        len(patients) < 3
    )


def _untested(datalist: DataList, seed: int) -> Split:
    """Split into training and validation by image, without a test part."""
    cases = datalist.cases
    order = np.random.default_rng(seed).permutation(len(cases))
    chosen = set(order[: len(cases) // HELD_OUT].tolist())
    train = tuple(case for number, case in enumerate(cases) if number not in chosen)
    validation = tuple(case for number, case in enumerate(cases) if number in chosen)
    return Split(train, validation or cases, (), datalist.classes)


def check_trainable(parts: Split) -> None:
    """Refuse a split without the annotations that training needs: an image with both classes, and validation points.

    With more than two classes: an image with background and another class, and each class in some image.

    Regions count like points: points are sampled from them for the methods that need points.

    Raises:
        CvmError: the part that lacks annotations, and what to do.
    """
    labels = [case_labels(case, parts.classes) for case in parts.train]
    missing = set(parts.classes.values()).difference(*labels)
    if len(parts.classes) > 2 and missing:
        name = next(name for name, label in parts.classes.items() if label in missing)
        raise CvmError(
            f"none of the {len(parts.train)} training images has points of the class {name}: annotate it on at least "
            "one, or use another fold"
        )
    if not any(teaches(found) for found in labels):
        raise CvmError(
            f"none of the {len(parts.train)} training images has points of both classes: annotate target and "
            "background on at least one, or use another fold"
        )
    if not any(case_labels(case, parts.classes) for case in parts.validation):
        raise CvmError(
            f"none of the {len(parts.validation)} validation images has points: annotate more images, or use another "
            "fold or seed"
        )


def case_labels(case: Case, classes: Mapping[str, int] = CLASSES) -> frozenset[int]:
    """Return the classes in a case's annotations; none for a case without annotations. `classes`: the data list's."""
    return read_annotations(case.points, classes=classes).labels() if case.points else frozenset()


def teaches(labels: frozenset[int]) -> bool:
    """Whether an image with these classes can have a pseudo-label: background and at least one other class."""
    return BACKGROUND in labels and len(labels) > 1
