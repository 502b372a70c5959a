"""What a user reads when his folder is not as it should be."""

import json

import numpy as np
import pytest
from PIL import Image

from cvm_monai.cli.main import main

SIZE = (20, 30)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "data" / "images" / f"{name}.png")
    return tmp_path / "data"


@pytest.fixture
def sentence(folder, tmp_path, capsys):
    """Run prepare on the folder; it must end with one sentence and write no data list."""

    def run(*options):
        assert main(["prepare", str(folder), "--output", str(tmp_path / "out"), *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("cvm-monai: error: ")
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "out" / "datalist.json").exists()
        return captured.err.removeprefix("cvm-monai: error: ").strip().replace(f"{folder}/", "")

    return run


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def point(x, y, label):
    properties = {"classification": {"name": label}}
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}, "properties": properties}


def test_truncated_image(folder, sentence):
    path = folder / "images" / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert sentence() == "images/b.png cannot be read as an image: image file is truncated"


def test_two_images_with_one_stem(folder, sentence):
    Image.new("RGB", SIZE).save(folder / "images" / "b.jpg")
    assert sentence() == "images/b.jpg and images/b.png both belong to case b; rename or remove one"


def test_two_point_files_for_one_image(folder, sentence):
    write(folder / "points" / "a.geojson", [])
    write(folder / "points" / "a.png.json", [])
    assert sentence() == "points/a.geojson and points/a.png.json both belong to case a; rename or remove one"


def test_points_in_file_and_table(folder, sentence):
    write(folder / "points" / "a.geojson", [])
    write(folder / "points.csv", "case_id,x,y,label\na,1,1,1\n")
    assert sentence() == "points/a.geojson: case a has points in points.csv as well; keep one of the two"


def test_two_tables(folder, sentence):
    for path in (folder / "points.csv", folder / "points" / "points.csv"):
        write(path, "case_id,x,y,label\n")
    assert sentence() == "points.csv and points/points.csv both exist; keep one of the two"


def test_mask_of_another_size(folder, sentence):
    (folder / "masks").mkdir()
    Image.new("L", (5, 7)).save(folder / "masks" / "a.png")
    assert sentence() == "masks/a.png has 5 x 7 px, its image has 30 x 20 px: they must be equal"


def test_lossy_mask(folder, sentence):
    (folder / "masks").mkdir()
    Image.new("L", SIZE[::-1]).save(folder / "masks" / "a.jpg")
    assert sentence() == "masks/a.jpg cannot be read as a mask: JPEG changes labels near borders; save it as PNG"


def test_unknown_label(folder, sentence):
    write(folder / "points" / "a.geojson", [point(1, 1, "target"), point(2, 2, "Tumor")])
    assert sentence() == (
        "points/a.geojson, feature 2: unknown label 'Tumor'; allowed are background (0), target (1), exclusion (255); "
        'map others by --classes \'{"Tumor": "target"}\''
    )


def test_malformed_points(folder, sentence):
    write(folder / "points" / "a.geojson", "[\n{]")
    assert sentence().startswith("points/a.geojson, line 2: not valid JSON")


def test_point_outside_refused_on_demand(folder, sentence):
    write(folder / "points" / "a.geojson", [point(30, 1, "target")])
    assert sentence("--outside", "refuse") == (
        "points/a.geojson: case a: target point (30, 1) outside the image of 30 x 20 px; correct it, or leave such "
        "annotations out by --outside drop"
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("case,patient_id\n", "cases.csv, line 1: the column 'case_id' is missing; found case, patient_id"),
        ("case_id,fold\na,1\n", "cases.csv, line 1: the column name 'fold' is reserved for the data list; rename it"),
        ("case_id\na\nb\na\n", "cases.csv, line 4: case a is already in line 2"),
        ("case_id,x\n,1\n", "cases.csv, line 2: the case_id is empty"),
        ("case_id,patient_id\na,\n",
         "cases.csv, line 2: the patient_id of case a is empty; fill it in or remove the column"),
        ("case_id,mpp\na,20x\n", "cases.csv, line 2: mpp must be a number, got '20x'"),
        ("case_id,mpp\na,-1\n", "cases.csv, line 2: mpp (micrometres per pixel) must be above 0, got -1"),
        ("case_id\na\nc\n",
         "cases.csv has no row for 2 image(s), the first is b.png (case_id b); add the rows, or remove the images"),
    ],
)  # fmt: skip
def test_bad_table_of_cases(folder, sentence, text, expected):
    write(folder / "cases.csv", text)
    assert sentence() == expected


def test_folders_without_images(folder, sentence):
    for image in (folder / "images").iterdir():
        image.unlink()
    assert sentence() == "images holds no image; known kinds are .png, .jpg, .jpeg, .bmp, .tif, .tiff"
    (folder / "images").rmdir()
    assert sentence() == f"{folder} has no folder images/; put the images there, one file for each case"
    folder.rmdir()
    assert sentence() == f"{folder} is not a folder; give the one that holds images/"


def test_too_many_folds(sentence):
    assert sentence("--folds", "5") == (
        "4 patient(s) cannot be spread over 5 folds: a patient is never split; use fewer folds (--folds)"
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--pairs", "0"], "pairs must be at least 1, got 0"),
        (["--folds", "1"], "folds must be at least 2, got 1"),
        (["--outside", "keep"], "outside must be one of drop, refuse, got 'keep'"),
        (["--classes", "{oops}"], "--classes is not valid JSON (Expecting property name enclosed in double quotes, "
         "column 2): {oops}"),
        (["--classes", "none.json"], "none.json does not exist"),
    ],
)  # fmt: skip
def test_bad_option(sentence, options, expected):
    assert sentence(*options) == expected


def test_class_map_from_a_file(folder, sentence, tmp_path):
    write(folder / "points" / "a.geojson", [point(1, 1, "Tumor")])
    write(tmp_path / "classes.json", ["Tumor"])
    assert sentence("--classes", str(tmp_path / "classes.json")).startswith("--classes must be a JSON object")
    write(tmp_path / "classes.json", {"Tumor": "target"})
    out = str(tmp_path / "other")
    assert main(["prepare", str(folder), "--output", out, "--classes", str(tmp_path / "classes.json")]) == 0


def test_out_that_cannot_be_written(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["prepare", str(folder), "--output", str(tmp_path / "file" / "out")]) == 2
    expected = f"cvm-monai: error: cannot write into {tmp_path}/file/out (Not a directory): give another --output\n"
    assert capsys.readouterr().err == expected


def test_report_is_printed(folder, tmp_path, capsys):
    write(folder / "points" / "a.geojson", [point(1, 1, "target")])
    write(folder / "points" / "b.docx", "")
    assert main(["prepare", str(folder), "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "  points/: skipped, not a known kind of annotation file: b.docx\n" in captured.out
    assert captured.out.startswith(f"Wrote {tmp_path}/out/datalist.json\n  cases       4\n")


def test_warnings_stand_before_the_error(folder, tmp_path, capsys):
    write(folder / "points" / "x.geojson", [point(1, 1, "target")])
    write(folder / "points" / "a.geojson", [point(1, 1, "Tumor")])
    assert main(["prepare", str(folder), "--output", str(tmp_path / "out")]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == "cvm-monai: warning: points/: no image for x.geojson"
    assert error.startswith("cvm-monai: error: ")


def test_warnings_about_slides_stand_before_the_error(tmp_path, capsys):
    from cvm_monai.slides import write_pyramid

    path = tmp_path / "data" / "slides" / "s1.tif"
    pixels = np.full((64, 64, 3), 200, np.uint8)
    write_pyramid(path, pixels.shape, [pixels], mpp=0.5, ome=False, levels=1, tile=64)
    write(tmp_path / "data" / "points" / "other.geojson", [point(1, 1, "target")])
    assert main(["prepare", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--mpp", "0.5"]) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert "cvm-monai: warning: points/: no image for other.geojson" in warnings
    assert error.startswith("cvm-monai: error: s1: no annotations, so that no tile was cut")
