"""Text, JSON and tables: each failure is one sentence, and what is written is read back."""

import json
import os

import pytest

from cvm_monai.files import (
    first_difference,
    nameless_file,
    private_temporary_folder,
    read_json,
    read_record,
    read_table,
    read_text,
    refuse_difference,
    sha256,
    sha256_of,
    temporary_file,
    temporary_folder,
    try_folder,
    update_json,
    write_json,
    write_table,
    write_text,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b'{"a": 1,\n "b": }', r"a.json, line 2: not valid JSON \(Expecting value, column 7\)$"),
        (b"", r"a.json, line 1: not valid JSON \(Expecting value, column 1\)$"),
        (b"[" * 100_000, r"a.json: not valid JSON \(nested too deeply\)$"),
        (b"1" * 5000, r"a.json: not valid JSON \(a whole number of thousands of digits\)$"),
        (b'"\xff"', r"a.json is not UTF-8 text \(byte 1\): save it as UTF-8$"),
        (b"\x1f\x8b\x08", r"a.json is not a complete gzip file"),
    ],
)
def test_what_is_no_json_is_one_sentence_with_its_place(tmp_path, content, sentence):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_json(tmp_path / "a.json")
    assert read_record(tmp_path / "a.json") is None


def test_what_is_no_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"a.json does not exist$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"cannot be read: it is a folder; give a file$"):
        read_text(tmp_path)
    assert (read_record(tmp_path / "a.json"), read_record(tmp_path)) == (None, None)


def test_json_is_replaced_updated_and_read_back(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"a": 1, "path": tmp_path})
    update_json(file, a=2, b="ä")
    assert read_json(file) == read_record(file) == {"a": 2, "path": str(tmp_path), "b": "ä"}
    assert file.read_bytes() == (json.dumps({"a": 2, "path": str(tmp_path), "b": "ä"}, indent=2) + "\n").encode()
    assert os.listdir(file.parent) == ["a.json"]


def test_a_record_is_an_object_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.json", "[1]")
    assert read_record(tmp_path / "a.json") is None
    write_text(tmp_path / "a.json", "{}")
    assert read_record(tmp_path / "a.json") == {}


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError, match="keys must be"):
        write_json(tmp_path / "a.json", {(1, 2): 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_table_is_read_back_and_a_failing_row_leaves_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.csv"
    write_table(path, [["case_id", "note"], ["a", "one, two"], [1, ""]])
    assert path.read_bytes() == b'case_id,note\na,"one, two"\n1,\n'
    rows = list(read_table(path, required=["case_id"]))
    assert rows == [(2, {"case_id": "a", "note": "one, two"}), (3, {"case_id": "1", "note": ""})]
    with pytest.raises(ZeroDivisionError, match="division"):
        write_table(path, ([1 // (2 - number)] for number in range(3)))
    assert len(list(read_table(path, required=[]))) == 2
    assert os.listdir(path.parent) == ["a.csv"]


def test_hashes_are_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == sha256_of(b"abc") == ABC


def test_temporary_files_are_gone_when_they_are_not_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("work-") as folder:
        assert (folder.parent, folder.name[:5]) == (tmp_path, "work-")
        (folder / "a").touch()
    with pytest.raises(FileNotFoundError, match="missing"), temporary_folder() as folder:
        (folder / "missing").read_bytes()
    for options in ({}, {"in_memory": 10}):
        with nameless_file(tmp_path, **options) as file:
            file.write(b"more than ten bytes")
            file.seek(0)
            assert file.read() == b"more than ten bytes"
            assert list(tmp_path.iterdir()) == []
    file = temporary_file(".nii.gz")
    assert (file.parent, file.name.endswith(".nii.gz"), file.read_bytes()) == (tmp_path, True, b"")
    assert list(tmp_path.iterdir()) == [file]


def test_all_temporary_files_of_a_process_can_have_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = private_temporary_folder("own-")
    assert own.parent == tmp_path
    assert temporary_file(".a").parent == own


def test_a_folder_is_tried_before_long_work(tmp_path):
    try_folder(tmp_path / "new" / "out")
    assert list((tmp_path / "new" / "out").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"File exists: '.*/file'"):
        try_folder(tmp_path / "file")


@pytest.mark.parametrize(
    "before, now, sentence",
    [
        ({"a": 1}, {"a": 1.0}, ""),
        ({"a": [1, 2]}, {"a": (1, 2)}, ""),
        ({"a": None, "b": {}}, {}, ""),
        ({"a": 2, "b": 1}, {"b": 3, "a": 1}, "b was 1 and is 3"),
        ({}, {"a": 1}, "a was nothing and is 1"),
        ({}, {"a": 0}, "a was nothing and is 0"),
        ({"a": False}, {}, "a was false and is nothing"),
        ({"a": {}}, {"a": 0}, "a was {} and is 0"),
        ({"a": []}, {"a": None}, "a was [] and is nothing"),
        ({"a": ""}, {}, 'a was "" and is nothing'),
        ({"a": "x"}, {}, 'a was "x" and is nothing'),
        ({"a": False}, {"a": True}, "a was false and is true"),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, "a#b#1#c was 2 and is 3"),
        ({"a": [1]}, {"a": [1, 2]}, "a#1 was nothing and is 2"),
        ({"a": None}, {"a": [100, 50]}, "a was nothing and is [100, 50]"),
        ({"a": 3}, {"a": {"b": 1}}, 'a was 3 and is {"b": 1}'),
        ({"data_sha256": "1"}, {"data_sha256": "2"}, "data has other content (data_sha256)"),
    ],
)
def test_the_first_difference_of_two_settings_is_named(before, now, sentence):
    assert first_difference(before, now) == sentence


def test_what_was_made_with_other_settings_is_refused_with_advice():
    refuse_difference({"a": 1}, {"a": 1}, what="the map is another", advice="remove it")
    with pytest.raises(ValueError, match=r"^the map is another: a was 1 and is 2; remove it$"):
        refuse_difference({"a": 1}, {"a": 2}, what="the map is another", advice="remove it")
