"""What holds of the folds and splits of every data set."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cvm_monai.data.datalist import Case, DataList
from cvm_monai.data.folds import assign_folds, split

PATIENTS = st.lists(st.sampled_from([f"p{number}" for number in range(12)]), min_size=2, max_size=60)
SEEDS = st.integers(0, 2**32 - 1)


@given(PATIENTS, st.integers(2, 6), SEEDS, st.randoms(use_true_random=False))
def test_folds_keep_patients_whole_are_balanced_and_follow_the_seed(patients, folds, seed, order):
    folds = min(folds, len(set(patients)))
    if folds < 2:
        return
    found = assign_folds(patients, folds=folds, seed=seed)
    assert len(found) == len(patients)
    assert set(found) == set(range(folds))
    assert len(set(zip(patients, found, strict=True))) == len(set(patients))  # one fold for each patient
    sizes = Counter(found)
    assert max(sizes.values()) - min(sizes.values()) <= max(Counter(patients).values())
    assert assign_folds(patients, folds=folds, seed=seed) == found
    shuffled = order.sample(range(len(patients)), len(patients))
    again = assign_folds([patients[index] for index in shuffled], folds=folds, seed=seed)
    assert again == [found[index] for index in shuffled]


@given(PATIENTS, st.integers(2, 6), SEEDS)
def test_parts_hold_every_case_once_and_share_no_patient(patients, folds, seed):
    folds = min(folds, len(set(patients)) - 1)
    if folds < 2:
        return
    fold_of = assign_folds(patients, folds=folds, seed=seed)
    cases = tuple(
        Case(str(number), patient, Path("a.png"), None, None, None, {}, fold)
        for number, (patient, fold) in enumerate(zip(patients, fold_of, strict=True))
    )
    listed = DataList({"background": 0, "target": 1}, cases, Path("datalist.json"))
    tested = Counter()
    for fold in range(folds):
        if len({case.patient_id for case in cases if case.fold != fold}) < 2:
            continue
        parts = split(listed, fold=fold, seed=seed)
        every = (*parts.train, *parts.validation, *parts.test)
        assert Counter(case.case_id for case in every) == Counter(case.case_id for case in cases)
        names = [{case.patient_id for case in part} for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, names)) == len(set.union(*names))
        assert all(names)
        assert split(listed, fold=fold, seed=seed) == parts
        tested.update(case.case_id for case in parts.test)
    assert set(tested.values()) <= {1}
