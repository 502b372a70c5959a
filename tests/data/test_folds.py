from pathlib import Path

import pytest

from cvm_monai.annotations import Annotations, Point, Region, write_geojson
from cvm_monai.data.datalist import Case, DataList
from cvm_monai.data.folds import Split, assign_folds, check_trainable, deal, split


def case(case_id, patient, fold, points=None):
    return Case(case_id, patient, Path("image.png"), points, None, None, {}, fold)


def listed(patients_per_fold, cases_per_patient=2):
    """Patients 0, 1, 2, ... with the given number in each fold."""
    folds = [fold for fold, count in enumerate(patients_per_fold) for _ in range(count)]
    cases = [case(f"{p}-{i}", str(p), fold) for p, fold in enumerate(folds) for i in range(cases_per_patient)]
    return DataList({}, tuple(cases), Path("datalist.json"))


def test_largest_patients_go_first_to_the_emptiest_fold():
    patients = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2
    folds = dict(zip(patients, assign_folds(patients, folds=2, seed=0), strict=True))
    assert folds == {"a": 0, "b": 1, "c": 1, "d": 0}  # 5 + 2 and 4 + 3 cases


def test_patient_stays_whole_whatever_the_order_of_the_cases():
    patients = [str(i % 9) for i in range(30)]
    forward = dict(zip(patients, assign_folds(patients, folds=3, seed=1), strict=True))
    backward = dict(zip(patients[::-1], assign_folds(patients[::-1], folds=3, seed=1), strict=True))
    assert forward == backward
    assert [forward[patient] for patient in patients] == assign_folds(patients, folds=3, seed=1)


def test_seed_mixes_patients_of_equal_size():
    patients = list("abcdefghijkl")
    assert assign_folds(patients, seed=0) == assign_folds(patients, seed=0) != assign_folds(patients, seed=1)
    assert sorted(assign_folds(patients, seed=5)) == sorted([0, 1, 2, 3] * 3)


def test_folds_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match=r"2 patient\(s\) cannot be spread over 3 folds"):
        assign_folds(["a", "b", "a"], folds=3)
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        assign_folds(["a", "b"], folds=1)


def test_patients_are_dealt_by_patient_without_a_word():
    dealt = deal("abcdef", ["p", "p", "q", "q", "r", "r"], folds=3)
    assert dealt.folds == tuple(assign_folds(["p", "p", "q", "q", "r", "r"], folds=3))
    assert (dealt.patient_ids, dealt.tested, dealt.warnings) == (("p", "p", "q", "q", "r", "r"), True, ())


@pytest.mark.parametrize("count, folds", [(3, 3), (4, 2), (4, 4), (9, 4)])
def test_one_patient_is_dealt_by_image_with_a_warning_and_every_fold_splits(count, folds):
    names = [f"s1_{number}" for number in range(count)]
    dealt = deal(names, ["s1"] * count, folds=folds)
    assert dealt.patient_ids == tuple(names)
    assert sorted(set(dealt.folds)) == list(range(folds))
    assert dealt.warnings[0].startswith(f"all {count} images come from the patient s1: the folds are dealt by image")
    cases = [case(*item) for item in zip(names, dealt.patient_ids, dealt.folds, strict=True)]
    for fold in range(folds):
        parts = split(DataList({}, tuple(cases), Path("datalist.json")), fold=fold)
        assert all((parts.train, parts.validation, parts.test))


@pytest.mark.parametrize("count, folds", [(1, 2), (1, 4), (2, 2), (1, 1), (2, 1), (30, 1)])
def test_one_patient_with_few_images_trains_without_a_test(count, folds):
    names = [f"s1_{number}" for number in range(count)]
    dealt = deal(names, ["s1"] * count, folds=folds)
    assert (dealt.tested, dealt.folds) == (False, (0,) * count)
    assert "there is a training and no test" in dealt.warnings[0]
    cases = tuple(case(*item) for item in zip(names, dealt.patient_ids, dealt.folds, strict=True))
    parts = split(DataList({}, cases, Path("datalist.json"), tested=False), fold=0)
    assert parts.test == ()
    assert parts.train
    assert parts.validation == (cases if count < 5 else tuple(case for case in cases if case not in parts.train))
    assert len(parts.train) == (24 if count == 30 else count)


def test_images_of_one_patient_that_cannot_be_dealt_are_refused_with_what_can():
    with pytest.raises(ValueError, match=r"all 3 images come from the patient s1, which cannot be divided into 4 folds"
                       ": give --folds 3, or --folds 1 to train on all of them without a test"):  # fmt: skip
        deal("abc", ["s1"] * 3, folds=4)
    with pytest.raises(ValueError, match="cannot be divided into 2 folds: give --folds 3"):
        deal("abc", ["s1"] * 3, folds=2)
    with pytest.raises(ValueError, match="folds must be at least 1, got 0"):
        deal("abc", ["s1"] * 3, folds=0)
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        deal("abc", "pqr", folds=1)


def test_two_patients_may_train_without_a_test():
    assert not deal("abc", "ppq", folds=1).tested
    assert deal("abc", "ppq", folds=2).tested
    with pytest.raises(
        ValueError, match="beside fold 0, there is 1: add patients, three are needed; --folds 1 of prep"
    ):
        split(listed([1, 1]), fold=0)


def test_parts_share_no_patient_and_cover_all_cases():
    datalist = listed([4, 3, 4])
    parts = split(datalist, fold=1, seed=0)
    patients = [{item.patient_id for item in part} for part in (parts.train, parts.validation, parts.test)]
    assert [len(found) for found in patients] == [6, 2, 3]  # 8 patients beside the test fold, a fifth of them is 1.6
    assert patients[2] == {"4", "5", "6"}
    assert set.union(*patients) == {str(number) for number in range(11)}
    assert len(parts.train) + len(parts.validation) + len(parts.test) == len(datalist.cases) == 22


def test_seed_moves_the_validation_part_only():
    datalist = listed([10, 10])
    parts = [split(datalist, fold=0, seed=seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1]
    assert parts[0].test == parts[2].test
    assert parts[0].validation != parts[2].validation


def test_two_other_patients_are_enough():
    parts = split(listed([1, 2]), fold=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (2, 2, 2)


@pytest.mark.parametrize(
    "sizes, fold, sentence",
    [
        ([2, 2, 2], 3, "fold 3 does not exist in datalist.json: use one of 0, 1, 2"),
        ([2, 1], 0, "training and validation need two patients beside fold 0, there is 1"),
        ([2], 0, "there is 0"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(sizes, fold, sentence):
    with pytest.raises(ValueError, match=sentence):
        split(listed(sizes), fold=fold)


TARGET_POINT, BACKGROUND_POINT = Point(0, 0, 1), Point(1, 1, 0)
REGION = Region(((0, 0), (1, 0), (1, 1)), (), 0)


@pytest.fixture
def annotated(tmp_path):
    def make(name, *points, regions=()):
        write_geojson(tmp_path / f"{name}.geojson", Annotations(points, regions))
        return case(name, name, 0, tmp_path / f"{name}.geojson")

    return make


def test_one_image_with_both_classes_suffices(annotated):
    both, one = annotated("a", TARGET_POINT, BACKGROUND_POINT), annotated("b", TARGET_POINT)
    check_trainable(Split(train=(case("x", "x", 0), both), validation=(one,), test=()))


def test_region_counts_as_a_class(annotated):
    both, one = annotated("a", TARGET_POINT, regions=[REGION]), annotated("b", regions=[REGION])
    check_trainable(Split(train=(both,), validation=(one,), test=()))


def test_classes_on_different_images_do_not_suffice(annotated):
    train = (annotated("a", TARGET_POINT), annotated("b", BACKGROUND_POINT))
    with pytest.raises(ValueError, match="none of the 2 training images has points of both classes: annotate"):
        check_trainable(Split(train=train, validation=train, test=()))


def test_validation_without_points_is_refused(annotated):
    both = annotated("a", TARGET_POINT, BACKGROUND_POINT)
    with pytest.raises(ValueError, match="none of the 1 validation images has points: annotate more"):
        check_trainable(Split(train=(both,), validation=(case("x", "x", 0),), test=()))
