"""From labels to a data list, and what a request may say of a training."""

import json

import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import Annotations, Point, read_annotations, write_geojson
from cvm_monai.data.datalist import read_datalist
from cvm_monai.label_app.training import read_knobs
from cvm_monai.label_app.training_data import check_labels, part_records, write_dataset

BOTH = (Point(2.5, 3.5, 1), Point(30.5, 31.5, 0))


def study(folder, name, points=BOTH, *, side=40):
    """(id, image, label) of a small image."""
    image, label = folder / f"{name}.png", folder / f"{name}.geojson"
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(image)
    write_geojson(label, Annotations(points))
    return name, image, label


def test_one_image_trains_and_validates(tmp_path):
    datalist = write_dataset([study(tmp_path, "a")], tmp_path / "out", classes={})
    assert [case.case_id for case in datalist.cases] == ["a"]
    for part in ("train", "validation"):
        (record,) = part_records(dataset_dir=str(tmp_path / "out"), part=part)
        assert record["case_id"] == "a"
        assert read_annotations(record["points"]).points == BOTH


def test_of_five_images_one_validates(tmp_path):
    studies = [study(tmp_path, name) for name in "abcde"]
    write_dataset(studies, tmp_path / "out", classes={})
    train, validation = (
        {record["case_id"] for record in part_records(dataset_dir=str(tmp_path / "out"), part=part)}
        for part in ("train", "validation")
    )
    assert len(train) == 4
    assert train | validation == set("abcde")
    assert not train & validation


def test_points_of_one_class_cannot_teach(tmp_path):
    with pytest.raises(ValueError, match=r"annotate target and background on at least one$"):
        write_dataset([study(tmp_path, "a", BOTH[:1])], tmp_path / "out", classes={})


def test_without_a_label_nothing_is_trained(tmp_path):
    with pytest.raises(ValueError, match="no image has a label yet"):
        write_dataset([], tmp_path / "out", classes={})
    with pytest.raises(ValueError, match="no image has a label yet"):
        check_labels([], classes={})


def test_labels_that_cannot_teach_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"annotate target and background on at least one$"):
        check_labels([study(tmp_path, "a", BOTH[:1]), study(tmp_path, "b", BOTH[1:])], classes={})
    with pytest.raises(ValueError, match="those of the image c are not known"):
        check_labels([study(tmp_path, "c")], classes={}, mpp=0.5)
    check_labels([study(tmp_path, "c"), study(tmp_path, "d", BOTH[:1])], classes={}, mpp=0.5, image_mpp=0.25)


def test_a_slide_gives_crops_around_its_points(tmp_path, monkeypatch):
    side = 1200
    monkeypatch.setattr("cvm_monai.label_app.training_data.FLAT", 1000)
    _, image, _ = study(tmp_path, "slide", side=side)
    label = tmp_path / "slide.geojson"
    points = (Point(700.5, 10.5, 1), Point(600.5, 20.5, 0), Point(1190.5, 1190.5, 0))
    write_geojson(label, Annotations(points))
    datalist = write_dataset([("slide", image, label)], tmp_path / "out", classes={})
    assert [case.case_id for case in datalist.cases] == ["slide_512_0", "slide_1024_1024"]
    assert {case.patient_id for case in datalist.cases} == {"slide"}
    first = datalist.cases[0]
    assert Image.open(first.image).size == (512, 512)
    assert set(read_annotations(first.points).points) == {Point(188.5, 10.5, 1), Point(88.5, 20.5, 0)}


def test_the_class_map_speaks_for_the_labels(tmp_path):
    name, image, label = study(tmp_path, "a")
    document = json.loads(label.read_text())
    for feature in document["features"]:
        shown = feature["properties"]["classification"]
        shown["name"] = {"target": "Tumor", "background": "Stroma"}[shown["name"]]
    label.write_text(json.dumps(document))
    classes = {"Tumor": "target", "Stroma": "background"}
    write_dataset([(name, image, label)], tmp_path / "out", classes=classes)
    (case,) = read_datalist(tmp_path / "out").cases
    assert read_annotations(case.points).points == BOTH


def test_knobs_are_numbers_and_known_words():
    found = read_knobs({"max_epochs": "3", "eta": 0.5, "start": ["scratch", "current"], "run_id": "", "model": "cvm"})
    assert found == {"max_epochs": 3, "eta": 0.5, "start": "scratch"}


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"max_epochs": "$__import__('os').getcwd()"}, "max_epochs must be a whole number"),
        ({"max_epochs": 1.5}, "max_epochs must be a whole number"),
        ({"learning_rate": "@seed"}, "learning_rate must be a number"),
        ({"learning_rate": True}, "learning_rate must be a number"),
        ({"supervision": "$1"}, "supervision must be one of"),
    ],
)
def test_a_knob_cannot_carry_an_expression(request_, message):
    with pytest.raises(ValueError, match=message):
        read_knobs(request_)
