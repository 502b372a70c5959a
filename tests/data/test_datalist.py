import json
from dataclasses import replace
from pathlib import Path

import pytest

from cvm_monai.data.datalist import Case, read_datalist, write_datalist

CASE = {"case_id": "a", "patient_id": "p", "image": "images/a.png", "points": None, "sha256": {"image": "0"}, "fold": 0}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def save(folder: Path, *cases, **changes) -> Path:
    """A data list with an empty file for each image."""
    for case in cases:
        if isinstance(case, dict) and isinstance(case.get("image"), str):
            touch(folder / case["image"])
    data = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": list(cases)} | changes
    (folder / "datalist.json").write_text(json.dumps(data))
    return folder


def test_written_file_is_as_agreed(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "data"
    image, mask = touch(elsewhere / "a.png"), touch(out / "masks" / "a.png")
    points = touch(out / "points" / "ä.geojson")
    hashes = {"image": "1", "points": "2", "mask": "3"}
    cases = [
        Case("a", "p", image, points, mask, 0.5, hashes, 1, {"grade": "benign"}),
        Case("b", "q", image, None, None, None, {"image": "1"}, 0),
    ]
    written = write_datalist(out / "datalist.json", cases)
    assert json.loads((out / "datalist.json").read_text(encoding="utf-8")) == {
        "version": 1,
        "classes": {"background": 0, "target": 1},
        "cases": [
            {
                "case_id": "a",
                "patient_id": "p",
                "image": image.as_posix(),
                "points": "points/ä.geojson",
                "mask": "masks/a.png",
                "mpp": 0.5,
                "sha256": hashes,
                "fold": 1,
                "grade": "benign",
            },
            {
                "case_id": "b",
                "patient_id": "q",
                "image": image.as_posix(),
                "points": None,
                "sha256": {"image": "1"},
                "fold": 0,
            },
        ],
    }
    assert read_datalist(out) == read_datalist(out / "datalist.json") == written
    assert written.folds == (0, 1)
    assert written.cases == tuple(cases)


def test_a_moved_folder_still_reads(tmp_path):
    (tmp_path / "old").mkdir()
    save(tmp_path / "old", CASE)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_datalist(tmp_path / "new").cases[0].image == tmp_path / "new" / "images" / "a.png"


def test_further_keys_of_a_case_are_kept(tmp_path):
    assert read_datalist(save(tmp_path, {**CASE, "grade": "benign"})).cases[0].extra == {"grade": "benign"}


def test_a_column_of_the_users_that_is_called_novel_stays_a_text(tmp_path):
    case = read_datalist(save(tmp_path, {**CASE, "novel": "ink+fold"})).cases[0]
    assert (case.novel_mask, case.extra) == (None, {"novel": "ink+fold"})


def test_missing_list_names_the_command(tmp_path):
    with pytest.raises(
        ValueError, match=r"none/datalist.json does not exist: .*`cvm-monai prepare .*none --output OUT`"
    ):
        read_datalist(tmp_path / "none")
    with pytest.raises(ValueError, match=r"datalist.json does not exist: .*`cvm-monai phantom data/phantom`"):
        read_datalist(tmp_path / "data" / "phantom")


def without(key):
    return {name: value for name, value in CASE.items() if name != key}


@pytest.mark.parametrize(
    "cases, sentence",
    [
        ([], "the list of cases is empty"),
        ([CASE, 3], "case 2: an object is expected, found 3"),
        ([CASE, CASE], "the case a appears twice"),
        ([CASE, {**CASE, "case_id": "b", "fold": 1}], r"patient p is in the folds 0 and 1 \(case b\)"),
        ([without("case_id")], "case 1: the key 'case_id' is missing"),
        ([without("points")], "case a: the key 'points' is missing"),
        ([without("sha256")], "case a: the key 'sha256' is missing"),
        ([without("fold")], "case a: the key 'fold' is missing"),
        ([{**CASE, "patient_id": 7}], "case a: patient_id must be text, found 7"),
        ([{**CASE, "fold": True}], "case a: fold must be a whole number from 0, found true"),
        ([{**CASE, "fold": -1}], "case a: fold must be a whole number from 0, found -1"),
        ([{**CASE, "mpp": "x"}], "case a: mpp must be a number above 0, found \"x\""),
        ([{**CASE, "mpp": 0}], "case a: mpp must be a number above 0, found 0"),
        ([{**CASE, "sha256": 3}], "case a: sha256 must be an object, found 3"),
        ([{**CASE, "points": 3}], "case a: points must be a path, found 3"),
        ([{**CASE, "points": "p.json"}], "case a: the points file .*p.json does not exist"),
        ([{**CASE, "mask": "m.png"}], "case a: the mask file .*m.png does not exist"),
        ([{**CASE, "novel_mask": "n.png"}], "case a: the novel_mask file .*n.png does not exist"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_case(tmp_path, cases, sentence):
    with pytest.raises(ValueError, match="datalist.json.*" + sentence):
        read_datalist(save(tmp_path, *cases))


def test_missing_image_is_named(tmp_path):
    save(tmp_path, CASE)
    (tmp_path / CASE["image"]).unlink()
    with pytest.raises(ValueError, match=r"case a: the image file .*a.png does not exist; prepare the data again"):
        read_datalist(tmp_path)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"version": 2}, "version 2 is not supported, only 1"),
        ({"classes": {"background": 1, "target": 0}}, 'classes must be {"background": 0, "target": 1}, found'),
        ({"cases": {}}, "not a data list"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_datalist(save(tmp_path, CASE, **changes))


def test_malformed_json_is_named_with_its_line(tmp_path):
    (tmp_path / "datalist.json").write_text('{"version": 1,\n\n oops')
    with pytest.raises(ValueError, match=r"datalist.json, line 3: not valid JSON"):
        read_datalist(tmp_path)


def test_nothing_is_written_when_the_cases_contradict(tmp_path):
    case = Case("a", "p", touch(tmp_path / "a.png"), None, None, None, {}, 0)
    write_datalist(tmp_path / "datalist.json", [case])
    before = (tmp_path / "datalist.json").read_bytes()
    with pytest.raises(ValueError, match="patient p is in the folds 0 and 1"):
        write_datalist(tmp_path / "datalist.json", [case, replace(case, case_id="b", fold=1)])
    assert (tmp_path / "datalist.json").read_bytes() == before
