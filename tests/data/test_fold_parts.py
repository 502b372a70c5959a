"""Records of a fold's parts, and the fold that is refused before anything is trained."""

import json
import logging

import pytest
from PIL import Image

from cvm_monai.data.fold_parts import case_records, check_split


def save_list(folder, labels, *, masks=(), mpp=None):
    """One patient for each letter pair in `labels`: T target, b background; the fold is the index, from 0."""
    cases = []
    for index, classes in enumerate(labels):
        name = f"case{index}"
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [1.5, 1.5 + 3 * number]},
                "properties": {"label": {"T": "target", "b": "background"}[letter]},
            }
            for number, letter in enumerate(classes)
        ]
        case = {"case_id": name, "patient_id": f"p{index}", "image": f"{name}.png", "points": None, "sha256": {}}
        case["fold"] = min(index, 1)
        if features:
            (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
            case["points"] = f"{name}.geojson"
        if index in masks:
            Image.new("L", (8, 8)).save(folder / f"{name}_mask.png")
            case["mask"] = f"{name}_mask.png"
        if mpp:
            case["mpp"] = mpp
        cases.append(case)
    data = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": cases}
    (folder / "datalist.json").write_text(json.dumps(data))
    return str(folder)


def records(folder, part, **changes):
    return case_records(**{"dataset_dir": folder, "part": part, "fold": 0, "seed": 0} | changes)


def test_a_record_holds_absolute_paths_as_text_and_none_where_there_is_nothing(tmp_path):
    folder = save_list(tmp_path, ["Tb", "Tb", "Tb"], masks=(0,), mpp=0.5)
    assert records(folder, "test") == [
        {
            "case_id": "case0",
            "patient_id": "p0",
            "image": str((tmp_path / "case0.png").resolve()),
            "points": str((tmp_path / "case0.geojson").resolve()),
            "mask": str((tmp_path / "case0_mask.png").resolve()),
            "novel_mask": None,
            "mpp": 0.5,
        }
    ]
    other = records(folder, "train")[0]
    assert other["mask"] is None
    assert json.loads(json.dumps(other)) == other


def test_the_three_parts_share_no_case_and_lose_none(tmp_path):
    folder = save_list(tmp_path, ["Tb"] * 7)
    parts = {part: {record["case_id"] for record in records(folder, part)} for part in ("train", "validation", "test")}
    assert parts["test"] == {"case0"}
    assert len(parts["validation"]) == 1
    assert len(parts["train"]) == 5
    assert set.union(*parts.values()) == {f"case{index}" for index in range(7)}


def test_cases_without_points_are_left_out_of_training_and_validation_but_are_tested(tmp_path):
    folder = save_list(tmp_path, ["", "Tb", "", "Tb", "T", ""])
    known = [record["case_id"] for part in ("train", "validation") for record in records(folder, part)]
    assert sorted(known) == ["case1", "case3", "case4"]
    assert [record["case_id"] for record in records(folder, "test")] == ["case0"]


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"part must be one of \('train', 'validation', 'test'\), got 'val'"):
        records(str(tmp_path), "val")


def test_the_split_is_counted_in_the_log(tmp_path, caplog):
    folder = save_list(tmp_path, ["Tb", *["Tb", "T", "", "b", "Tb", "T", "", "b", "Tb", "Tb"]])
    with caplog.at_level(logging.INFO):
        datalist = check_split(folder, fold=0, seed=0)
    trained = {record["case_id"] for record in records(folder, "train")}
    one_class = len(trained & {"case2", "case4", "case6", "case8"})
    assert len(datalist.cases) == 11
    assert "fold 0: 8 training, 2 validation, 1 test images" in caplog.text
    assert f"{one_class} have points of one class only (no pseudo-label)" in caplog.text
    assert f"{8 - len(trained)} have none (left out)" in caplog.text


def test_a_fold_whose_training_part_lacks_a_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of the 2 training images has points of both classes"):
        check_split(save_list(tmp_path, ["Tb", "T", "b", "T"]), fold=0, seed=0)


def test_full_supervision_needs_a_training_mask(tmp_path):
    folder = save_list(tmp_path, ["Tb"] * 4, masks=(0,))
    check_split(folder, fold=0, seed=0)
    with pytest.raises(ValueError, match=r"datalist\.json: full supervision needs masks, no training case has one"):
        check_split(folder, fold=0, seed=0, supervision_needs_masks=True)
    folder = save_list(tmp_path, ["Tb"] * 4, masks=(1, 2, 3))
    check_split(folder, fold=0, seed=0, supervision_needs_masks=True)
