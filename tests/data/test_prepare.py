import hashlib
import json
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.annotations import Annotations, Point, Region, read_annotations, write_geojson
from cvm_monai.data.check import binary_mask, check_case, mapped_mask
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.folder import read_folder
from cvm_monai.data.prepare import prepare

SIZE = (20, 30)
BOTH = (Point(3.5, 4.5, 1), Point(20, 10, 0))
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[5:15, 5:15] = 1
TARGET_ONLY, UNREACHED = Region(((1, 1), (9, 1), (9, 9)), (), 1), Region(((50, 1), (60, 1), (60, 9)), (), 1)


@pytest.fixture
def folder(tmp_path):
    """Four images, no two alike, and nothing else."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for number, name in enumerate("abcd"):
        add_image(tmp_path / "data", name, number)
    return tmp_path / "data"


def add_image(folder, name, grey=0, suffix="png", size=SIZE):
    Image.fromarray(np.full((*size, 3), grey, dtype=np.uint8)).save(folder / "images" / f"{name}.{suffix}")


def add_mask(folder, name, mask=MASK, kind="masks"):
    (folder / kind).mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / kind / f"{name}.png")


def add_points(folder, name, *points, regions=(), names=("background", "target")):
    write_geojson(folder / "points" / f"{name}.geojson", Annotations(points, regions), names=names)


def by_id(report):
    return {case.case_id: case for case in report.datalist.cases}


def snapshot(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_masks_give_points_and_the_folder_stays_as_it_was(folder, tmp_path):
    for name in "abcd":
        add_mask(folder, name, MASK * 255)
    before = snapshot(folder)
    report = prepare(folder, out=tmp_path / "out", pairs=3)
    assert snapshot(folder) == before
    assert read_datalist(tmp_path / "out") == report.datalist
    assert sorted(case.fold for case in report.datalist.cases) == [0, 1, 2, 3]
    for name, case in by_id(report).items():
        assert case.points == tmp_path / "out" / "points" / f"{name}.geojson"
        points = read_annotations(case.points).points
        assert [MASK[int(point.y), int(point.x)] for point in points] == [1, 1, 1, 0, 0, 0]
        assert case.extra == {"points_source": "sampled"}
        for key in ("image", "points", "mask"):
            assert case.sha256[key] == hashlib.sha256(getattr(case, key).read_bytes()).hexdigest()
    assert report.sampled == dict.fromkeys("abcd", 6)
    assert report.points == {1: 12, 0: 12}


def test_points_of_a_case_do_not_depend_on_the_others(folder, tmp_path):
    for name in "abcd":
        add_mask(folder, name)
    first = {name: case.points.read_text() for name, case in by_id(prepare(folder, out=tmp_path / "o1")).items()}
    add_image(folder, "B", 9)
    add_mask(folder, "B")
    second = {name: case.points.read_text() for name, case in by_id(prepare(folder, out=tmp_path / "o2")).items()}
    assert {name: second[name] for name in first} == first
    assert len(set(second.values())) == 5


def test_points_keep_out_of_novel_tissue(folder, tmp_path):
    novel = np.zeros(SIZE, dtype=np.uint8)
    novel[:, 18:] = 255
    novel[5:10, 5:15] = 255
    for name in "abcd":
        add_mask(folder, name)
        add_mask(folder, name, novel, kind="novel")
    report = prepare(folder, out=tmp_path / "out", pairs=8)
    assert "  novel       masks of novel regions for 4 of 4 cases\n" in str(report)
    for case in report.datalist.cases:
        points = read_annotations(case.points).points
        assert len(points) == 16
        assert not any(novel[int(point.y), int(point.x)] for point in points)
        assert case.novel_mask == folder / "novel" / f"{case.case_id}.png"
        assert case.sha256["novel_mask"] == hashlib.sha256(case.novel_mask.read_bytes()).hexdigest()
    assert read_datalist(tmp_path / "out") == report.datalist


def test_novel_mask_of_another_size_is_refused_even_where_nothing_is_sampled(folder, tmp_path):
    add_points(folder, "a", *BOTH)
    add_mask(folder, "a", MASK[1:], kind="novel")
    with pytest.raises(ValueError, match=r"novel/a.png has 30 x 19 px, its image has 30 x 20 px: they must be equal"):
        prepare(folder, out=tmp_path / "out")


def test_clean_files_are_referenced_and_the_rest_is_cleaned(folder, tmp_path):
    add_points(folder, "a", *BOTH, regions=[TARGET_ONLY])
    add_points(folder, "b", *BOTH, Point(30, 5, 1), Point(-1, 5, 0), regions=[UNREACHED])
    add_points(folder, "c.png", BOTH[0], names=("background", "Tumor"))
    report = prepare(folder, out=tmp_path / "out", classes={"tumor": "target"})
    cases = by_id(report)
    assert cases["a"].points == folder / "points" / "a.geojson"
    assert cases["b"].points == tmp_path / "out" / "points" / "b.geojson"
    assert cases["c"].points == tmp_path / "out" / "points" / "c.geojson"
    assert read_annotations(cases["b"].points).points == BOTH
    assert read_annotations(cases["c"].points).points == BOTH[:1]
    assert cases["d"].points is None
    assert [cases[name].extra.get("points_source") for name in "abcd"] == ["file", "cleaned", "cleaned", None]
    assert report.dropped == (
        "case b: target point (30, 5) outside the image of 30 x 20 px",
        "case b: background point (-1, 5) outside the image of 30 x 20 px",
        "case b: region around (50, 1) outside the image of 30 x 20 px",
    )
    assert report.points == {1: 3, 0: 2}
    assert report.regions == {1: 1}
    assert Counter(report.labels.values()) == {
        frozenset({0, 1}): 2, frozenset({1}): 1, frozenset(): 1
    }  # fmt: skip


@pytest.mark.parametrize("place", ["points.csv", "points/points.csv"])
def test_table_of_points_is_spread_over_the_cases(folder, tmp_path, place):
    (folder / "points").mkdir()
    (folder / place).write_text("case_id,x,y,label\na,1.5,2,target\na,3,4,0\nc,5,6,background\nz,1,1,1\n")
    report = prepare(folder, out=tmp_path / "out")
    cases = by_id(report)
    assert read_annotations(cases["a"].points).points == (Point(1.5, 2, 1), Point(3, 4, 0))
    assert read_annotations(cases["c"].points).points == (Point(5, 6, 0),)
    assert cases["b"].points is None
    assert "points.csv: no image for case z" in report.warnings


def test_table_of_cases_gives_patients_pixel_sizes_and_further_columns(folder, tmp_path):
    rows = ["case_id;patient_id;mpp;grade", "d;p;0,5;benign", "a;q;;", "b;r;0.25;x", "c;p;1;", "e;s;1;"]
    (folder / "cases.csv").write_text("\n".join(rows))
    report = prepare(folder, out=tmp_path / "out", folds=3)
    cases = by_id(report)
    assert [(case.patient_id, case.mpp, case.extra["grade"]) for case in cases.values()] == [
        ("q", None, ""), ("r", 0.25, "x"), ("p", 1.0, ""), ("p", 0.5, "benign")
    ]  # fmt: skip
    assert cases["c"].fold == cases["d"].fold
    assert report.warnings[0] == "cases.csv: no image for case e"
    assert not any("patient_id" in warning for warning in report.warnings)


def test_report_says_what_a_user_must_know(folder, tmp_path):
    add_mask(folder, "a")
    add_points(folder, "b", *BOTH, Point(99, 5, 1))
    add_points(folder, "c", BOTH[0], regions=[Region(TARGET_ONLY.exterior, (), 255)])
    add_points(folder, "e", BOTH[0])
    (folder / "images" / "notes.txt").touch()
    (folder / "images" / ".hidden").touch()
    text = str(prepare(folder, out=tmp_path / "my out", pairs=2, folds=2))
    assert (
        text
        == f"""\
Wrote {tmp_path}/my out/datalist.json
  cases       4
  patients    4
  masks       1 of 4 cases
  um/px       unknown (add a column mpp to cases.csv to work at a chosen pixel size)
  annotated   2 with both classes, 1 target only, 0 background only, 1 not at all (never trained on)
  points      4 target, 3 background
  sampled     4 of them, from the masks of 1 of 4 cases, 3 px or more from borders where there is room
  regions     0 target, 0 background, 1 exclusion

  fold  cases  patients  with both classes
     0      2         2                  1
     1      2         2                  1

Read
  b.geojson: 1 target, 1 background, 1 outside the image
  c.geojson: 1 target, 1 exclusion region

Left out because outside the image: 1
  case b: target point (99, 5) outside the image of 30 x 20 px

Warnings
  images/: skipped, not a known kind of image: notes.txt
  points/: no image for e.geojson
  no patient_id in cases.csv: each image counts as a patient of its own; if some images come from the same patient \
the test scores will be too good

Next
  python -m monai.bundle run training --config_file bundle/configs/train.yaml \\
    --dataset_dir '{tmp_path}/my out' --output_dir 'runs/my out'"""
    )


def test_fold_that_cannot_be_trained_and_equal_images_are_warned_of(folder, tmp_path):
    add_points(folder, "a", *BOTH)
    add_image(folder, "d", 0)
    report = prepare(folder, out=tmp_path / "out")
    fold = by_id(report)["a"].fold
    assert f"fold {fold} cannot be trained: no image of the other folds has points of both classes" in report.warnings
    assert "the same image under several names and patients: a.png, d.png; remove all but one" in report.warnings
    assert len(report.warnings) == 3


def test_folder_without_any_pair_of_classes_is_told_what_to_do(folder, tmp_path):
    add_points(folder, "a", BOTH[0])
    add_points(folder, "b", BOTH[1])
    report = prepare(folder, out=tmp_path / "out")
    assert report.warnings[-1] == "no fold can be trained: no image has points of both classes"
    assert str(report).endswith("Next\n  click target and background on the same image, then prepare again")


def test_own_folder_is_sampled_anew_but_edited_points_stay(folder):
    for name in "abcd":
        add_mask(folder, name)
    prepare(folder, out=folder, pairs=2)
    add_points(folder, "a", *BOTH)
    report = prepare(folder, out=folder, pairs=4)
    assert report.sampled == {"b": 8, "c": 8, "d": 8}
    assert read_annotations(folder / "points" / "a.geojson").points == BOTH
    assert json.loads((folder / "datalist.json").read_text())["cases"][0]["image"] == "images/a.png"


def test_mask_values_follow_the_class_map(folder, tmp_path):
    labels = MASK.copy()
    labels[:3] = 2
    for name in "abcd":
        add_mask(folder, name, labels)
    case = prepare(folder, out=tmp_path / "out", classes={"2": "background"}).datalist.cases[0]
    assert case.mask == tmp_path / "out" / "masks" / "a.png"
    np.testing.assert_array_equal(np.array(Image.open(case.mask)), MASK)


def test_no_checked_case_holds_its_mask_so_that_ten_thousand_fit_into_memory(folder):
    add_mask(folder, "a", MASK + 1)
    source = read_folder(folder, classes=None, generated=frozenset()).sources[0]
    classes = {"1": "background", "2": "target"}
    checked = check_case(source, pairs=1, seed=0, classes=classes, outside="drop", min_distance=0)
    assert checked.rewritten
    assert not [name for name, value in vars(checked).items() if isinstance(value, np.ndarray)]
    np.testing.assert_array_equal(mapped_mask(source, classes=classes), MASK)


def test_binary_mask_takes_everything_but_zero_for_target():
    assert binary_mask(np.array([[0, 1, 255, 7]])).tolist() == [[0, 1, 1, 1]]
    assert binary_mask(np.array([[0, 1, 2]]), classes={"1": 0, "0": 1, "Tumor": 1, "9": "skip"}).tolist() == [[1, 0, 1]]
    with pytest.raises(ValueError, match=r"m.png: a mask holds only target and background, the class map says 2: skip"):
        binary_mask(np.array([[2]]), classes={"2": "skip"}, where="m.png")


def test_users_file_is_never_replaced(folder):
    add_points(folder, "a", Point(99, 5, 1), *BOTH)
    before = snapshot(folder)
    with pytest.raises(ValueError, match=r"a.geojson is your own file and would be replaced: give another --output"):
        prepare(folder, out=folder)
    assert snapshot(folder) == before


def test_annotation_files_beside_the_images_folder_are_named_as_passed_over(folder, tmp_path):
    for name in ("points.zip", "a.geojson", "b.xml.gz", "notes.txt", "run.json"):
        (folder / name).write_text("{}")
    warnings = prepare(folder, out=tmp_path / "out").warnings
    what = "skipped, annotations are read from points/, one file for each image:"
    assert [text for text in warnings if text.startswith(what)] == [f"{what} a.geojson, b.xml.gz, points.zip"]


def test_a_folder_in_which_nothing_is_annotated_says_so_and_what_may_be_meant(folder, tmp_path):
    (folder / "point").mkdir()
    warnings = prepare(folder, out=tmp_path / "out").warnings
    said = "nothing is annotated, there is no points/, points.csv or masks/: is it point/?"
    assert [text for text in warnings if text.startswith("nothing is annotated")] == [said]


def test_failure_leaves_an_earlier_list_as_it_was(folder, tmp_path):
    for name in "abcd":
        add_mask(folder, name)
    prepare(folder, out=tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (folder / "images" / "d.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"d.png cannot be read as an image"):
        prepare(folder, out=tmp_path / "out", pairs=9)
    assert snapshot(tmp_path / "out") == before


def test_every_kind_of_annotation_file_is_prepared(folder, tmp_path):
    (folder / "points").mkdir()
    dots = "".join(
        f'<Annotation Type="Dot" PartOfGroup="{group}"><Coordinates><Coordinate Order="0" X="{x}" Y="2"/></Coordinates>'
        "</Annotation>"
        for x, group in ((1, "Tumor"), (2, "None"), (99, "Tumor"))
    )
    (folder / "points" / "a.xml").write_text(f"<ASAP_Annotations><Annotations>{dots}</Annotations></ASAP_Annotations>")
    elements = [{"type": "point", "center": [x, 2, 0], "group": group} for x, group in ((1, "Tumor"), (2, "default"))]
    (folder / "points" / "b.json").write_text(json.dumps({"annotation": {"elements": elements}}))
    (folder / "points" / "c.csv").write_text("x,y,label\n1,2,tumor\n2,2,\n")
    add_mask(folder, "d", MASK, kind="points")
    classes = {"Tumor": {"class": "target", "color": [1, 2, 3]}}
    report = prepare(folder, out=tmp_path / "out", classes=classes, unclassified="background")
    for name in "abc":
        assert read_annotations(by_id(report)[name].points).points == (Point(1, 2, 1), Point(2, 2, 0))
    assert read_annotations(by_id(report)["a"].points).colours == {1: (1, 2, 3), 0: (0, 114, 178)}
    assert by_id(report)["d"].points == folder / "points" / "d.png"
    assert report.read == {
        "a.xml": "1 target, 1 background, 1 outside the image",
        "b.json": "1 target, 1 background",
        "c.csv": "1 target, 1 background",
        "d.png": "1 target region, 1 background region",
    }


def test_unknown_labels_of_all_files_are_named_together(folder, tmp_path):
    add_points(folder, "a", *BOTH, Point(1, 1, 1), names=("Stroma", "Tumor"))
    add_points(folder, "b", Point(1, 1, 1), names=("Stroma", "TIL"))
    add_points(folder, "c", *BOTH)
    with pytest.raises(
        ValueError, match=r"points \(2 files\): unknown labels 'Tumor' \(1\), 'Stroma' \(1\), 'TIL' \(1\)"
    ):
        prepare(folder, out=tmp_path / "out")


def test_a_file_of_another_image_is_refused(folder, tmp_path):
    add_points(folder, "a", Point(300, 5, 1), Point(99, 5, 0))
    with pytest.raises(ValueError, match=r"points/a.geojson: nothing in it lies inside .*images/a.png of 30 x 20 px"):
        prepare(folder, out=tmp_path / "out")


def add_tiff(folder, name, *, mpp, grey=9, dtype=np.uint8):
    """An image whose resolution tags say a um/px."""
    pixels = np.full((*SIZE, 3), grey, dtype)
    options = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "images" / f"{name}.tif", pixels, photometric="rgb", **options)


def test_um_per_px_come_from_the_images_own_file_where_no_table_says_them(folder, tmp_path):
    add_tiff(folder, "e", mpp=0.5, grey=20)
    add_tiff(folder, "f", mpp=0.25, grey=21)
    (folder / "cases.csv").write_text("case_id,patient_id,mpp\na,a,\nb,b,\nc,c,\nd,d,1\ne,e,\nf,f,0.5\n")
    report = prepare(folder, out=tmp_path / "out")
    assert {name: case.mpp for name, case in by_id(report).items()} == {
        "a": None, "b": None, "c": None, "d": 1, "e": pytest.approx(0.5), "f": 0.5,
    }  # fmt: skip
    assert [sentence for sentence in report.warnings if "um/px" in sentence] == [
        f"{folder / 'images' / 'f.tif'}: cases.csv says 0.5 um/px, which is used; the file says 0.25"
    ]


def test_a_um_per_px_that_no_microscope_has_is_not_taken_from_a_file(folder, tmp_path):
    for grey, name in enumerate("xyz", start=30):
        add_tiff(folder, name, mpp=352.8, grey=grey)
    report = prepare(folder, out=tmp_path / "out")
    assert {case.mpp for case in report.datalist.cases} == {None}
    (warning,) = [sentence for sentence in report.warnings if "um/px" in sentence]
    assert warning.startswith("the um/px of 3 of 7 images are none of a microscope and not used, the first is x.tif")


def test_dark_images_of_16_bits_are_named_in_the_report(folder, tmp_path):
    for number in range(12):
        add_tiff(folder, f"dark{number:02}", mpp=0.5, grey=4000 - number, dtype=np.uint16)
    warnings = [sentence for sentence in prepare(folder, out=tmp_path / "out").warnings if "12 bits" in sentence]
    assert len(warnings) == 10
    assert "dark00.tif: its 16 bits hold values up to 4000 only" in warnings[0]
    assert "2 more such warnings about images" in str(prepare(folder, out=tmp_path / "out"))


def test_images_whose_channels_nobody_named_are_refused(folder, tmp_path):
    tifffile.imwrite(folder / "images" / "e.tif", np.zeros((3, *SIZE), np.uint8), imagej=True)
    with pytest.raises(ValueError, match=r"e\.tif cannot be read as an image: its channels are separate pages"):
        prepare(folder, out=tmp_path / "out")


def test_points_sampled_from_a_mask_that_calls_zero_white_lie_on_its_target(folder, tmp_path):
    (folder / "masks").mkdir()
    options = {"photometric": "miniswhite", "metadata": None, "description": "ImageJ=1.53t\n"}
    for name in "abcd":
        tifffile.imwrite(folder / "masks" / f"{name}.tif", MASK * 255, **options)
    cases = prepare(folder, out=tmp_path / "out", pairs=3).datalist.cases
    assert [case.case_id for case in cases] == list("abcd")
    for case in cases:
        points = read_annotations(case.points).points
        assert len(points) == 6
        for point in points:
            assert MASK[int(point.y), int(point.x)] == point.label


def test_images_in_sub_folders_are_named_by_their_path_and_so_are_their_masks(folder, tmp_path):
    for number, name in enumerate(("p1/a", "p2/a", "p2/b")):
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        (folder / "masks" / name).parent.mkdir(exist_ok=True, parents=True)
        add_image(folder, name, number)
        add_mask(folder, name if number < 2 else "b")
    for name in "abcd":
        (folder / "images" / f"{name}.png").unlink()
    report = prepare(folder, out=tmp_path / "out", folds=2)
    assert sorted(by_id(report)) == ["p1__a", "p2__a", "p2__b"]
    assert all(case.mask is not None for case in report.datalist.cases)
    assert sorted(file.name for file in (tmp_path / "out" / "points").iterdir()) == [
        "p1__a.geojson", "p2__a.geojson", "p2__b.geojson",
    ]  # fmt: skip


def test_overlaps_of_equals_are_counted_and_warned_about(folder, tmp_path):
    square = ((12, 1), (20, 1), (20, 9), (12, 9))
    beside = Region(tuple((x + 4, y) for x, y in square), (), 0)
    inside = Region(((13, 2), (15, 2), (15, 4), (13, 4)), (), 0)
    add_points(folder, "a", regions=(Region(square, (), 1), beside))
    add_points(folder, "b", regions=(Region(square, (), 1), inside))
    report = prepare(folder, out=tmp_path / "out")
    assert report.left_out == {"overlap of two classes": 1}
    (sentence,) = report.overlaps
    assert sentence.startswith("a.geojson: 1 pair of regions of different classes overlap and neither lies inside")
    assert sentence in str(report)
    assert by_id(report)["a"].points == folder / "points" / "a.geojson"


def write_features(path, *points):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [point.x, point.y]},
            "properties": {"classification": {"name": str(point.label)}},
        }
        for point in points
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(features))


def test_files_and_rows_may_name_an_image_as_other_programs_do(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate(("s1.ome", "Pra\u0308parat", "c")):
        add_image(folder, name, number, suffix="tif")
    for name in ("s1", "Pr\u00e4parat"):
        write_features(folder / "points" / f"{name}.geojson", *BOTH)
        add_mask(folder, name)
    (folder / "points.csv").write_text("case_id,x,y,label\nc.tif,3.5,4.5,1\nc.tif,20,10,0\n")
    (folder / "cases.csv").write_text("case_id,patient_id\ns1,A\nPr\u00e4parat.tif,Pra\u0308\nc.tif,Pr\u00e4\n")
    report = prepare(folder, out=tmp_path / "out", folds=2)
    cases = by_id(report)
    assert sorted(cases) == ["Pr\u00e4parat", "c", "s1.ome"]
    assert {case.patient_id for case in cases.values()} == {"A", "Pr\u00e4"}
    assert cases["Pr\u00e4parat"].fold == cases["c"].fold
    for case in cases.values():
        assert read_annotations(case.points).points == BOTH
    assert cases["s1.ome"].mask == folder / "masks" / "s1.png"
    assert not any("no image" in sentence for sentence in report.warnings)


def test_one_case_under_two_names_in_a_table_is_refused(folder, tmp_path):
    (folder / "points.csv").write_text("case_id,x,y,label\na,1,1,1\na.png,2,2,0\n")
    with pytest.raises(ValueError, match=r"points.csv: a and a.png are the same case; write one of the two"):
        prepare(folder, out=tmp_path / "out")


def test_an_error_has_the_warnings_that_may_explain_it(folder, tmp_path):
    add_points(folder, "a", *BOTH, names=("Stroma", "Tumor"))
    add_points(folder, "x", *BOTH)
    with pytest.raises(ValueError, match="unknown labels") as caught:
        prepare(folder, out=tmp_path / "out")
    assert caught.value.__notes__ == ["points/: no image for x.geojson"]
    (folder / "cases.csv").write_text("case_id\na\n")
    with pytest.raises(ValueError, match=r"cases.csv has no row for 3 image\(s\)") as caught:
        prepare(folder, out=tmp_path / "out")
    assert caught.value.__notes__ == ["points/: no image for x.geojson"]


def test_images_in_sub_folders_may_be_named_as_other_programs_do(folder, tmp_path):
    for name in "abcd":
        (folder / "images" / f"{name}.png").unlink()
    for number, name in enumerate(("p1/s1.ome", "p2/s1.ome", "p2/Pra\u0308parat")):
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        add_image(folder, name, number, suffix="tif")
    (folder / "points" / "p1").mkdir(parents=True)
    for name in ("p1/s1", "p2__s1.ome.tif", "Pr\u00e4parat"):
        write_features(folder / "points" / f"{name}.geojson", *BOTH)
    for name in ("p2__s1", "Pra\u0308parat"):
        add_mask(folder, name)
    (folder / "cases.csv").write_text("case_id,patient_id\np1/s1.ome.tif,A\np2/s1,B\nPr\u00e4parat.tif,B\n")
    report = prepare(folder, out=tmp_path / "out", folds=2)
    cases = by_id(report)
    assert {name: case.patient_id for name, case in cases.items()} == {
        "p1__s1.ome": "A", "p2__s1.ome": "B", "p2__Pr\u00e4parat": "B",
    }  # fmt: skip
    assert [name for name, case in cases.items() if case.mask is None] == ["p1__s1.ome"]
    assert {case.extra["points_source"] for case in cases.values()} == {"file"}
    assert ["two patients" in warning for warning in report.warnings] == [True]  # no name is left unmatched
