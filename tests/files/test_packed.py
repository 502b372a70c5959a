"""Files that are packed, whatever their name says, and files made to fill the memory."""

import gzip
import json
import zipfile

import pytest

from cvm_monai.annotations import Point, asap, read_annotations, read_points_csv
from cvm_monai.annotations.reader import annotation_suffix
from cvm_monai.files import packed, streams

FEATURE = {
    "type": "Feature",
    "geometry": {"type": "Point", "coordinates": [1.5, 2.5]},
    "properties": {"classification": {"name": "target"}},
}
TEXT = json.dumps({"type": "FeatureCollection", "features": [FEATURE]})
DOT = '<Annotation Type="Dot" PartOfGroup="target"><Coordinate Order="0" X="1.5" Y="2.5"/></Annotation>'
XML = f"<ASAP_Annotations>{DOT}</ASAP_Annotations>"
CSV = "case_id,x,y,label\na,1.5,2.5,1\n"
FOUND = (Point(1.5, 2.5, 1),)


def archive(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name.replace("__dot__", "."), text)
    return path


def save(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("name, member, text", [
    ("slide1.zip", "slide1.geojson", TEXT),
    ("slide1.geojson.zip", "slide1.json", TEXT),
    ("slide1.geojson", "slide1.geojson", TEXT),
    ("slide1.ZIP", "export/slide1.XML", XML),
    ("slide1.zip", "slide1.csv", CSV),
])  # fmt: skip
def test_the_file_in_an_archive_is_read(tmp_path, name, member, text):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("export/", "")
        file.writestr(member, text)
        file.writestr("__MACOSX/._" + member.rpartition("/")[2], "of the system")
    assert annotation_suffix(path) is not None
    assert read_annotations(path).points == FOUND


@pytest.mark.parametrize("name, text", [("a.geojson", TEXT), ("a.json", TEXT), ("a.xml", XML), ("a.csv", CSV)])
def test_a_gzipped_file_under_another_name_is_read(tmp_path, name, text):
    assert read_annotations(save(tmp_path / name, gzip.compress(text.encode()))).points == FOUND


def test_a_table_may_be_gzipped_and_a_file_may_be_unpacked_under_its_old_name(tmp_path):
    assert read_points_csv(save(tmp_path / "points.csv", gzip.compress(CSV.encode())))["a"].points == FOUND
    assert read_annotations(save(tmp_path / "a.geojson.gz", TEXT)).points == FOUND


def test_archives_of_no_or_several_or_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none.zip is a ZIP archive of 0 files; one annotation file is expected"):
        read_annotations(archive(tmp_path / "none.zip"))
    several = archive(tmp_path / "several.zip", a__dot__geojson=TEXT, b__dot__geojson=TEXT)
    with pytest.raises(ValueError, match=r"several.zip is a ZIP archive of 2 files"):
        read_annotations(several)
    with pytest.raises(ValueError, match=r"other.zip holds a.docx, which is not an annotation file"):
        read_annotations(archive(tmp_path / "other.zip", a__dot__docx="text"))
    with pytest.raises(ValueError, match=r"broken.zip is a ZIP archive that cannot be read"):
        read_annotations(save(tmp_path / "broken.zip", several.read_bytes()[:40]))
    with pytest.raises(ValueError, match=r"text.zip is a ZIP archive that cannot be read"):
        read_annotations(save(tmp_path / "text.zip", TEXT))


def test_a_damaged_archive_and_one_with_a_password_are_refused(tmp_path):
    data = bytearray(archive(tmp_path / "a.zip", a__dot__geojson=TEXT * 50).read_bytes())
    locked = bytearray(data)
    locked[6] |= 1
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match=r"locked.zip is a ZIP archive that cannot be read: .*(encrypted|password)"):
        read_annotations(save(tmp_path / "locked.zip", bytes(locked)))
    data[50:60] = bytes(10)
    with pytest.raises(ValueError, match=r"damaged.zip (is a ZIP archive that cannot be read|is not a complete)"):
        read_annotations(save(tmp_path / "damaged.zip", bytes(data)))


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.zip", "a.xml.gz", "points.csv"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(packed, "ALWAYS", 2**16)
    bomb = (XML if ".xml" in name else TEXT) + " " * 2**22
    if name.endswith(".zip"):
        path = archive(tmp_path / name, a__dot__geojson=bomb)
    else:
        path = save(tmp_path / name, gzip.compress(bomb.encode()))
    with pytest.raises(ValueError, match=rf"{name} unpacks to more than 100 times its size, too much for annotations"):
        read_points_csv(path) if name.endswith(".csv") else read_annotations(path)


def test_spaces_without_end_are_passed_over_quickly(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(" " * 2**22 + TEXT)
    assert read_annotations(path).points == FOUND


def test_an_object_without_end_is_refused_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LARGEST", 2**12)
    monkeypatch.setattr(streams, "MOST", 2**12)
    monkeypatch.setattr(streams, "CHUNK", 2**10)
    path = save(tmp_path / "a.geojson", '{"features": [\n' + TEXT + ',\n{"a": "' + "a" * 2**14)
    with pytest.raises(ValueError, match=r"a.geojson, line 3: one object of more than 0 million characters"):
        read_annotations(path)


def test_tags_without_end_and_without_number_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(asap, "LONGEST_TAG", 2**12)
    monkeypatch.setattr(asap, "MANY_TAGS", 2**12)
    long = "<ASAP_Annotations " + "".join(f'a{index}="b" ' for index in range(2**14))
    with pytest.raises(ValueError, match=r"a.xml.gz: one tag or text of more than 16 MiB"):
        read_annotations(save(tmp_path / "a.xml.gz", gzip.compress(long.encode())))
    many = "<ASAP_Annotations>" + "<a/>" * 2**16
    with pytest.raises(
        ValueError, match=r"b.xml.gz: more than 4096 tags, too many for annotations in a file of its size"
    ):
        read_annotations(save(tmp_path / "b.xml.gz", gzip.compress(many.encode())))
