"""The phantom as a folder: its files, its table, and what it refuses to overwrite."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvm_monai.data.phantom import generate, generate_phantom


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_writes_images_masks_novel_regions_and_the_table(tmp_path: Path) -> None:
    summary = generate_phantom(tmp_path / "a" / "phantom", cases=6, size=64)
    folder = summary.folder
    rows = _table(folder)
    assert sorted(entry.name for entry in folder.iterdir()) == ["cases.csv", "images", "masks", "novel", "phantom.json"]
    assert [row["case_id"] for row in rows] == [f"case_00{i}" for i in range(6)]
    for row in rows:
        image, mask, novel = (Image.open(folder / name / f"{row['case_id']}.png") for name in generate._FOLDERS)
        assert (image.mode, mask.mode, novel.mode) == ("RGB", "L", "L")
        target, unlike = np.asarray(mask), np.asarray(novel)
        assert set(np.unique(target)) == {0, 255}
        assert set(np.unique(unlike)) <= {0, 255}
        assert float(row["target_fraction"]) == pytest.approx((target == 255).mean(), abs=1e-4)
        assert float(row["novel_fraction"]) == pytest.approx((unlike == 255).mean(), abs=1e-4)
        assert 0.8 <= float(row["mpp"]) <= 1.25
    assert (summary.cases, summary.patients) == (6, len({row["patient_id"] for row in rows}))
    assert summary.novel_cases == sum(row["novel"] != "" for row in rows)


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in {"a": 7, "b": 7, "c": 8}.items():
        generate_phantom(tmp_path / name, cases=2, size=64, seed=seed)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    first, other = _digests(tmp_path / "a"), _digests(tmp_path / "c")
    assert all(first[name] != other[name] for name in first if name.startswith(("images", "masks")))


def test_a_case_does_not_depend_on_how_many_follow(tmp_path: Path) -> None:
    generate_phantom(tmp_path / "few", cases=2, size=64)
    generate_phantom(tmp_path / "more", cases=4, size=64)
    few, more = _digests(tmp_path / "few"), _digests(tmp_path / "more")
    assert all(few[name] == more[name] for name in few if name.endswith(".png"))
    assert _table(tmp_path / "few") == _table(tmp_path / "more")[:2]


def test_patients_have_two_or_three_cases_unless_their_number_is_given(tmp_path: Path) -> None:
    assert generate_phantom(tmp_path / "default", cases=10, size=64).patients == 4
    names = [row["patient_id"] for row in _table(tmp_path / "default")]
    assert sorted(names.count(name) for name in set(names)) == [2, 2, 3, 3]
    generate_phantom(tmp_path / "given", cases=4, size=64, patients=2)
    names = [row["patient_id"] for row in _table(tmp_path / "given")]
    assert names == ["patient_00", "patient_01", "patient_00", "patient_01"]
    assert len({row["mpp"] for row in _table(tmp_path / "given")}) == 2


def test_an_earlier_phantom_is_replaced_whole(tmp_path: Path) -> None:
    generate_phantom(tmp_path, cases=3, size=64, seed=1)
    generate_phantom(tmp_path, cases=1, size=64, seed=2)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["case_000.png"]
    assert len(_table(tmp_path)) == 1


def test_files_beside_an_unchanged_phantom_are_kept_and_never_orphaned(tmp_path: Path) -> None:
    generate_phantom(tmp_path, cases=1, size=64)
    (tmp_path / "points.csv").write_text("case_id,x,y,label\n")
    generate_phantom(tmp_path, cases=1, size=64)
    assert (tmp_path / "points.csv").read_text() == "case_id,x,y,label\n"
    before = _digests(tmp_path)
    with pytest.raises(ValueError, match=r"holds points.csv beside a phantom drawn with other arguments"):
        generate_phantom(tmp_path, cases=1, size=64, seed=1)
    assert _digests(tmp_path) == before


def test_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "case_000.png").write_bytes(b"mine")
    with pytest.raises(
        ValueError, match=r"holds files that are not a phantom \(images\): give a new or an empty folder"
    ):
        generate_phantom(tmp_path, cases=1, size=64)
    assert _digests(tmp_path) == {"images/case_000.png": hashlib.sha256(b"mine").hexdigest()}


@pytest.mark.parametrize("stamp", ["{}", "[]", "no json", '{"generator": "another"}'])
def test_a_stamp_that_is_not_ours_does_not_open_a_folder(tmp_path: Path, stamp: str) -> None:
    (tmp_path / "phantom.json").write_text(stamp)
    with pytest.raises(ValueError, match="files that are not a phantom"):
        generate_phantom(tmp_path, cases=1, size=64)


def test_refuses_to_drop_a_file_that_was_put_among_the_images(tmp_path: Path) -> None:
    generate_phantom(tmp_path, cases=1, size=64)
    (tmp_path / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"images holds mine.png, which is not part of the phantom"):
        generate_phantom(tmp_path, cases=1, size=64)
    assert (tmp_path / "images" / "mine.png").read_bytes() == b"mine"


def test_a_failure_while_drawing_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_phantom(tmp_path / "old", cases=1, size=64)
    before = _digests(tmp_path / "old")
    drawn = []

    def fail_at_the_second(*arguments: object, **options: int) -> object:
        if drawn:
            raise OSError(28, "No space left on device")
        drawn.append(arguments)
        return draw_case(*arguments, **options)

    draw_case = generate.draw_case
    monkeypatch.setattr(generate, "draw_case", fail_at_the_second)
    for folder in ("old", "new"):
        drawn.clear()
        with pytest.raises(ValueError, match=r"cannot be written to .* \(No space left on device\)"):
            generate_phantom(tmp_path / folder, cases=2, size=64)
    assert _digests(tmp_path) == {f"old/{name}": digest for name, digest in before.items()}
    assert not (tmp_path / "new").exists()


def test_a_failure_while_moving_in_puts_the_earlier_phantom_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_phantom(tmp_path, cases=1, size=64)
    before = _digests(tmp_path)
    rename = Path.rename

    def fail_at_new_masks(self: Path, target: Path) -> Path:
        if target == tmp_path / "masks" and self.parent.name != "old":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_new_masks)
    with pytest.raises(ValueError, match="Input/output error"):
        generate_phantom(tmp_path, cases=1, size=64, seed=1)
    assert _digests(tmp_path) == before


def test_refuses_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"The phantom cannot be written to .*file.*: give another folder"):
            generate_phantom(out, cases=1, size=64)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"cases": 0}, "0 cases is empty: give at least 1"),
        ({"size": 63}, r"63 px is too small .* give at least 64"),
        ({"size": 1_000_000}, "1000000 px is too large to draw: give at most 8192"),
        ({"seed": -1}, "seed is -1: give an integer of at least 0"),
        ({"cases": 2, "patients": 3}, "3 patients cannot share 2 phantom cases: give 1 to 2"),
        ({"patients": 0}, "0 patients cannot share 24"),
    ],
)
def test_refuses_arguments_out_of_range_and_writes_nothing(
    tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate_phantom(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
