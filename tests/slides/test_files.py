"""Which files are images: DICOM series, sub-folders, names."""

from pathlib import Path

import pytest

from cvm_monai.slides.files import images_in, one_of_each_series, other_names, series_uid


@pytest.mark.parametrize("implicit", [False, True])
def test_the_series_is_that_of_the_file_not_of_one_that_it_refers_to(tmp_path, make_dicom, implicit):
    assert series_uid(make_dicom(tmp_path / "a.dcm", "1.2.840.77", implicit=implicit)) == "1.2.840.77"


def test_what_is_no_dicom_or_damaged_has_no_series(tmp_path, make_dicom):
    whole = make_dicom(tmp_path / "a.dcm", "1.2").read_bytes()
    for size in range(0, len(whole) - 10, 7):
        (tmp_path / "b.dcm").write_bytes(whole[:size])
        assert series_uid(tmp_path / "b.dcm") in (None, "1.2", "1.")
    (tmp_path / "c.dcm").write_bytes(b"x" * 500)
    assert series_uid(tmp_path / "c.dcm") is None
    assert series_uid(tmp_path / "missing.dcm") is None


def test_the_first_file_of_a_series_stands_for_all_whatever_the_order(tmp_path, make_dicom):
    a, b, c = (make_dicom(tmp_path / f"{name}.dcm", uid) for name, uid in (("a", "1"), ("b", "2"), ("c", "1")))
    other = tmp_path / "d.dcm"
    other.write_bytes(b"no dicom")
    assert one_of_each_series([c, b, other, a]) == {b: (b,), other: (other,), a: (a, c)}
    assert list(one_of_each_series([a, b, c, other])) == [a, b, other]


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_in(folder):
    return [image.name for image in images_in(folder, (".svs", ".dcm"))]


def test_images_of_sub_folders_are_named_by_their_path(tmp_path, make_dicom):
    touch(tmp_path, "0a1b/TCGA-1.svs", "0a1b/logs/x.parcel", "2c/TCGA-1.svs", ".git/y.svs", "2c/annotations.txt")
    for number in range(3):
        make_dicom(tmp_path / "slide7" / f"{number}.dcm", "1.7")
        make_dicom(tmp_path / "two" / f"{number}.dcm", f"1.{number % 2}")
    assert names_in(tmp_path) == ["0a1b__TCGA-1", "2c__TCGA-1", "slide7", "two__0", "two__1"]


def test_images_of_the_folder_itself_come_before_those_of_sub_folders(tmp_path):
    touch(tmp_path, "a.svs", "sub/b.svs")
    assert names_in(tmp_path) == ["a"]


def test_folders_of_results_and_links_in_a_circle_are_not_entered(tmp_path):
    touch(tmp_path, "p/a.svs", "out/a/run.json", "out/a/overlay.svs")
    (tmp_path / "p" / "again").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path) == ["p__a"]


def test_other_names_mean_an_image_where_they_mean_no_other(tmp_path, make_dicom):
    touch(tmp_path, "p/a.svs", "q/a.svs", "q/b.svs")
    make_dicom(tmp_path / "s" / "1.2.dcm", "9")
    make_dicom(tmp_path / "s" / "1.3.dcm", "9")
    found = other_names(images_in(tmp_path, (".svs", ".dcm")), tmp_path)
    assert {name: found.get(name) for name in ("a", "b", "b.svs", "p/a", "q/b.svs", "1.3", "1.2.dcm", "s/1.3")} == {
        "a": None, "b": "q__b", "b.svs": "q__b", "p/a": "p__a", "q/b.svs": "q__b", "1.3": "s", "1.2.dcm": "s",
        "s/1.3": "s",
    }  # fmt: skip
    assert isinstance(next(iter(images_in(tmp_path, (".svs",)))).path, Path)
