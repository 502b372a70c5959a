"""Folds by patient, and the three parts of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cvm_monai.annotations import BACKGROUND, read_annotations
from cvm_monai.data.datalist import CLASSES, Case, DataList
from cvm_monai.errors import CvmError

SMALLEST_DEALT = 3
"""Images of one patient from which folds are dealt: one to train, one to validate and one to test."""

HELD_OUT = 5
"""Without a test, one image in so many validates."""


@dataclass(frozen=True)
class Split:
    """The parts of one fold; no patient is in two of them where there is a test. `classes` is that of the data list."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    classes: Mapping[str, int] = field(default_factory=lambda: dict(CLASSES))


@dataclass(frozen=True)
class Dealt:
    """How cases are dealt into folds.

    Attributes:
        patient_ids: of each case; its own id where the only patient is dealt by image.
        folds: of each case.
        tested: see `DataList`.
        warnings: sentences for the user.
    """

    patient_ids: tuple[str, ...]
    folds: tuple[int, ...]
    tested: bool = True
    warnings: tuple[str, ...] = ()


def deal(case_ids: Sequence[str], patient_ids: Sequence[str], *, folds: int, seed: int = 0) -> Dealt:
    """The folds of cases: by patient; of one patient by image, or none is tested.

    One patient's images are dealt as if each were a patient. Where they are too few for that, or `folds` is 1, all
    train and none is tested; two patients, of whom folds leave one to train and validate on, may be asked for so too.

    Args:
        case_ids, patient_ids: of each case.
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
            f"{whose}, which cannot be dealt into {folds} folds: give --folds {SMALLEST_DEALT}, or --folds 1 to train "
            "on all of them without a test"
        )
    sentence = (
        f"{whose}: the folds are dealt by image, so that test scores are too good and say nothing about other "
        "patients; --folds 1 trains on all of them without a test"
    )
    return Dealt(tuple(case_ids), tuple(assign_folds(case_ids, folds=folds, seed=seed)), True, (sentence,))


def assign_folds(patient_ids: Sequence[str], *, folds: int = 4, seed: int = 0) -> list[int]:
    """The fold of each case, such that all cases of a patient share one and folds are about equal in cases.

    The patients are shuffled and the one with most cases comes first; each joins the fold with the fewest cases so far.

    Args:
        patient_ids: the patient of each case; their order does not matter.
        folds: number of folds, from 2; raising it leaves more cases for training and fewer for each test.
        seed: another seed mixes patients of equal size otherwise.

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
    """Test = the cases of `fold`; validation = a seeded fifth of the other patients (at least one); train = the rest.

    Of a data list that is not tested the test part is empty, and a fifth of its images is validation; where there are
    fewer than five, all of them train and validate.

    Args:
        fold: the fold that is tested.
        seed: chooses the validation patients; the test part does not depend on it.

    Raises:
        CvmError: a fold that the list lacks, or too few other patients to train on some and validate on others.
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
    """What makes folds of a data list possible."""
    patients = {case.patient_id for case in datalist.cases}
    if len(patients) > len(datalist.folds):
        return "add patients, or prepare with more folds"
    return "add patients, three are needed" + "; --folds 1 of prepare trains on all without a test" * (
        len(patients) < 3
    )


def _untested(datalist: DataList, seed: int) -> Split:
    """Training and validation by image, nothing to test."""
    cases = datalist.cases
    order = np.random.default_rng(seed).permutation(len(cases))
    chosen = set(order[: len(cases) // HELD_OUT].tolist())
    train = tuple(case for number, case in enumerate(cases) if number not in chosen)
    validation = tuple(case for number, case in enumerate(cases) if number in chosen)
    return Split(train, validation or cases, (), datalist.classes)


def check_trainable(parts: Split) -> None:
    """Refuse a split that cannot teach: the training part needs an image with both classes, validation some points.

    Of more than two classes: an image with background and another class, and each class somewhere.

    Regions count as well as points: they give points to the methods that need them.

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
    """The classes that a case's annotations hold; none for a case without annotations. `classes`: the data list's."""
    return read_annotations(case.points, classes=classes).labels() if case.points else frozenset()


def teaches(labels: frozenset[int]) -> bool:
    """Whether an image with these classes can have a pseudo-label: background, and something to tell from it."""
    return BACKGROUND in labels and len(labels) > 1
