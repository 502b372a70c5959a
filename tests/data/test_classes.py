"""A folder of three classes, from its class map to what a network is fed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.annotations import Annotations, Point, read_annotations, write_geojson
from cvm_monai.data.check import class_mask
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.fold_parts import case_records, class_count, class_names
from cvm_monai.data.folds import Split, check_trainable
from cvm_monai.data.prepare import prepare
from cvm_monai.data.sampling import sample_points
from cvm_monai.data.transforms import LoadCased, RandCropToPointsd, class_labels

SIZE = (64, 96)
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[10:30, 10:30], MASK[35:60, 50:80] = 1, 2
CLASSES = {"Tumor": "target", "Lymphocytes": 2}
NAMES = {"background": 0, "target": 1, "lymphocytes": 2}


@pytest.fixture
def folder(tmp_path):
    """Four images with masks of three classes."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number, case in enumerate("abcd"):
        Image.fromarray(np.full((*SIZE, 3), number, dtype=np.uint8)).save(tmp_path / "data" / "images" / f"{case}.png")
        Image.fromarray(MASK).save(tmp_path / "data" / "masks" / f"{case}.png")
    return tmp_path / "data"


def prepared(folder, **options):
    return prepare(folder, out=folder.parent / "out", classes=CLASSES, **options)


def test_points_of_each_class_are_sampled_and_the_data_list_names_the_classes(folder):
    report = prepared(folder, pairs=3)
    assert read_datalist(folder.parent / "out").classes == NAMES
    assert json.loads(report.datalist.path.read_text())["classes"] == NAMES
    points = read_annotations(report.datalist.cases[0].points, classes=NAMES).points
    assert [point.label for point in points] == [1, 1, 1, 2, 2, 2, 0, 0, 0]
    assert all(MASK[int(point.y), int(point.x)] == point.label for point in points)
    assert report.datalist.cases[0].mask == folder / "masks" / "a.png"  # the user's own
    text = str(report)
    assert "4 with all 3 classes, 0 with background and some, 0 with less, 0 not at all" in text
    assert "points      12 target, 12 lymphocytes, 12 background" in text


def test_the_points_of_two_of_three_classes_are_those_of_two_classes():
    binary = sample_points(np.minimum(MASK, 1) * (MASK != 2), case_id="a", pairs=4)
    many = sample_points(MASK, case_id="a", pairs=4, classes=3)
    assert [point for point in many if point.label == 1] == [point for point in binary if point.label == 1]


def test_your_own_points_with_your_own_names_are_read_as_they_are(folder):
    points = (Point(12.5, 12.5, 1), Point(60.5, 40.5, 2), Point(1.5, 1.5, 0))
    write_geojson(folder / "points" / "a.geojson", Annotations(points), names=("background", "target", "Lymphocytes"))
    case = prepared(folder).datalist.cases[0]
    assert case.points == folder / "points" / "a.geojson"
    record = next(
        record
        for part in ("train", "validation", "test")
        for record in case_records(dataset_dir=str(folder.parent / "out"), part=part, fold=case.fold, seed=0)
        if record["case_id"] == "a"
    )
    item = LoadCased()(record)
    assert item["in_points"].tolist() == [[12, 12], [40, 60]]
    assert item["in_labels"].tolist() == [1, 2]
    assert item["out_points"].tolist() == [[1, 1]]
    np.testing.assert_array_equal(item["mask"][0], MASK)
    assert (item["label"][0, 40, 60], item["label"][0, 12, 12], item["label"][0, 1, 1]) == (2, 1, 0)


def test_a_point_outside_its_image_is_named_by_its_class(folder):
    points = (Point(500.5, 1.5, 2), Point(1.5, 1.5, 0))
    write_geojson(folder / "points" / "a.geojson", Annotations(points), names=("background", "target", "Lymphocytes"))
    assert prepared(folder).dropped == ("case a: lymphocytes point (500.5, 1.5) outside the image of 96 x 64 px",)


def test_masks_hold_class_numbers_and_the_class_map_speaks_of_others():
    mask = np.array([[0, 1, 2, 7, 9, 255]])
    classes = CLASSES | {"7": "Lymphocytes", "9": "exclusion"}
    assert class_mask(mask, classes=classes).tolist() == [[0, 1, 2, 2, 255, 255]]
    with pytest.raises(
        ValueError, match=r"m.png: the value 7 is not a class; the 3 classes have the values 0 to 2, map"
    ):
        class_mask(mask, classes=CLASSES, where="m.png")
    with pytest.raises(ValueError, match="the value 7 is not a class"):
        class_mask(mask, classes=CLASSES | {"7": "skip"})


def test_a_mask_that_the_class_map_changes_is_written_anew(folder):
    Image.fromarray(np.where(MASK == 2, 7, MASK).astype(np.uint8)).save(folder / "masks" / "a.png")
    case = prepare(folder, out=folder.parent / "out", classes=CLASSES | {"7": 2}).datalist.cases[0]
    np.testing.assert_array_equal(class_labels(str(case.mask), classes=3), MASK)
    with pytest.raises(ValueError, match=r"a.png: the value 7 is none of the 3 classes: prepare again"):
        class_labels(str(folder / "masks" / "a.png"), classes=3)


def test_the_number_of_classes_is_asked_without_a_complaint(folder, tmp_path):
    prepared(folder)
    assert class_names(str(folder.parent / "out")) == ["background", "target", "lymphocytes"]
    assert class_count(str(tmp_path / "none")) == 2
    (tmp_path / "datalist.json").write_text('{"classes": 3}')
    assert class_count(str(tmp_path)) == 2


@pytest.mark.parametrize(
    "classes",
    [{"background": 0, "target": 1, "x": 3}, {"background": 0, "target": 2, "x": 1}, {"background": 0}, {"a": "b"}, []],
)
def test_classes_that_are_not_numbered_in_turn_are_refused(folder, classes):
    path = prepared(folder).datalist.path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": classes}))
    with pytest.raises(ValueError, match=r"classes must be .* further classes are numbered from 2 without gaps"):
        read_datalist(path)


def test_a_class_that_no_training_image_shows_is_named(folder):
    cases = prepared(folder).datalist.cases
    check_trainable(Split(train=cases[:1], validation=cases[1:], test=(), classes=NAMES))
    with pytest.raises(ValueError, match="none of the 1 training images has points of the class fat: annotate it"):
        check_trainable(Split(train=cases[:1], validation=cases[1:], test=(), classes=NAMES | {"fat": 3}))


def test_all_channels_of_a_pseudo_label_are_cropped_with_the_image():
    q = torch.arange(3 * 80 * 90).reshape(3, 80, 90).float()
    label = torch.full((1, 80, 90), 255, dtype=torch.uint8)
    label[0, 70, 80] = 2
    item = {"image": q, "label": label, "mask": label, "pseudo_label": q}
    cropped = RandCropToPointsd(size=64)(item)
    assert cropped["pseudo_label"].shape == (3, 64, 64)
    torch.testing.assert_close(cropped["pseudo_label"], cropped["image"])
    small = RandCropToPointsd(size=128)(item)
    assert (small["pseudo_label"][:, 80:] == -1).all()
