"""Folds by patient, and the three parts of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cvm_monai.annotations import BACKGROUND, read_annotations
from cvm_monai.data.datalist import CLASSES, Case, DataList


@dataclass(frozen=True)
class Split:
    """The parts of one fold; no patient is in two of them. `classes` is that of the data list."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    classes: Mapping[str, int] = field(default_factory=lambda: dict(CLASSES))


def assign_folds(patient_ids: Sequence[str], *, folds: int = 4, seed: int = 0) -> list[int]:
    """The fold of each case, such that all cases of a patient share one and folds are about equal in cases.

    The patients are shuffled and the one with most cases comes first; each joins the fold with the fewest cases so far.

    Args:
        patient_ids: the patient of each case; their order does not matter.
        folds: number of folds, from 2; raising it leaves more cases for training and fewer for each test.
        seed: another seed mixes patients of equal size otherwise.

    Raises:
        ValueError: fewer than two folds, or fewer patients than folds.
    """
    sizes = Counter(patient_ids)
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if len(sizes) < folds:
        raise ValueError(
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

    Args:
        fold: the fold that is tested.
        seed: chooses the validation patients; the test part does not depend on it.

    Raises:
        ValueError: a fold that the list lacks, or too few other patients to train on some and validate on others.
    """
    if fold not in datalist.folds:
        known = ", ".join(map(str, datalist.folds))
        raise ValueError(f"fold {fold} does not exist in {datalist.path}: use one of {known}")
    others = [case for case in datalist.cases if case.fold != fold]
    patients = sorted({case.patient_id for case in others})
    if len(patients) < 2:
        raise ValueError(
            f"{datalist.path}: training and validation need two patients beside fold {fold}, there is "
            f"{len(patients)}: add patients, or prepare with more folds"
        )
    np.random.default_rng(seed).shuffle(patients)
    chosen = set(patients[: max(1, round(len(patients) / 5))])
    return Split(
        train=tuple(case for case in others if case.patient_id not in chosen),
        validation=tuple(case for case in others if case.patient_id in chosen),
        test=tuple(case for case in datalist.cases if case.fold == fold),
        classes=datalist.classes,
    )


def check_trainable(parts: Split) -> None:
    """Refuse a split that cannot teach: the training part needs an image with both classes, validation some points.

    Of more than two classes: an image with background and another class, and each class somewhere.

    Regions count as well as points: they give points to the methods that need them.

    Raises:
        ValueError: the part that lacks annotations, and what to do.
    """
    labels = [case_labels(case, parts.classes) for case in parts.train]
    missing = set(parts.classes.values()).difference(*labels)
    if len(parts.classes) > 2 and missing:
        name = next(name for name, label in parts.classes.items() if label in missing)
        raise ValueError(
            f"none of the {len(parts.train)} training images has points of the class {name}: annotate it on at least "
            "one, or use another fold"
        )
    if not any(teaches(found) for found in labels):
        raise ValueError(
            f"none of the {len(parts.train)} training images has points of both classes: annotate target and "
            "background on at least one, or use another fold"
        )
    if not any(case_labels(case, parts.classes) for case in parts.validation):
        raise ValueError(
            f"none of the {len(parts.validation)} validation images has points: annotate more images, or use another "
            "fold or seed"
        )


def case_labels(case: Case, classes: Mapping[str, int] = CLASSES) -> frozenset[int]:
    """The classes that a case's annotations hold; none for a case without annotations. `classes`: the data list's."""
    return read_annotations(case.points, classes=classes).labels() if case.points else frozenset()


def teaches(labels: frozenset[int]) -> bool:
    """Whether an image with these classes can have a pseudo-label: background, and something to tell from it."""
    return BACKGROUND in labels and len(labels) > 1
