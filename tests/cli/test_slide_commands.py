"""The commands that cut slides, as a user types them."""

import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import Annotations, Point, write_geojson
from cvm_monai.cli.main import main
from cvm_monai.slides import write_pyramid


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        pixels = np.full((200, 200, 3), 100 if name == "a" else 120, np.uint8)
        write_pyramid(tmp_path / "data" / "images" / f"{name}.tif", (200, 200, 3), [pixels], mpp=0.5, ome=False)
        points = (Point(50, 60, 1), Point(70, 80, 0))
        write_geojson(tmp_path / "data" / "points" / f"{name}.geojson", Annotations(points), names=("Stroma", "Tumor"))
    return tmp_path / "data"


def prepare(folder, *options):
    return main(["prepare", str(folder), "--output", str(folder.parent / "out"), "--folds", "2", *options])


def test_prepare_cuts_tiles(folder, capsys):
    assert prepare(folder, "--mpp", "0.5", "--tile", "64", "--classes", "Tumor=target,Stroma=background") == 0
    text = capsys.readouterr().out
    assert text.startswith("a: 1 target, 1 background; 1 tile\nb: 1 target, 1 background; 1 tile\n")
    assert Image.open(folder.parent / "out" / "images" / "a_28_38.png").size == (64, 64)


def test_prepare_resamples_wholes(folder, capsys):
    assert prepare(folder, "--mpp", "1", "--whole", "--classes", "Tumor=target,Stroma=background") == 0
    assert capsys.readouterr().out.startswith("a: 1 target, 1 background; whole, 100 x 100 px\n")
    assert Image.open(folder.parent / "out" / "images" / "a.png").size == (100, 100)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--tile", "64"], "--tile is an option for slides: give the um/px of the tiles too, for example --mpp 0.5"),
        (["--whole"], "--whole is an option for slides: give the um/px of the tiles too, for example --mpp 0.5"),
        (
            ["--origin", "bounds"],
            "--origin is an option for slides: give the um/px of the tiles too, for example --mpp 0.5",
        ),
        (["--mpp", "0.5", "--origin", "qupath"], "--origin must be one of level0, bounds, got 'qupath'"),
        (["--mpp", "0.5", "--tile", "63"], "--tile must be a multiple of 32 px, from 64, got 63"),
        (["--mpp", "0.5", "--tile", "0"], "--tile must be a multiple of 32 px, from 64, got 0"),
    ],
)
def test_options_that_make_no_sense(folder, capsys, options, sentence):
    assert prepare(folder, *options) == 2
    assert capsys.readouterr().err == f"cvm-monai: error: {sentence}\n"


def test_slides_without_mpp_are_told_how_to_go_on(folder, capsys):
    for file in (folder / "images").iterdir():
        file.rename(file.with_suffix(".svs"))
    assert prepare(folder) == 2
    assert "; it holds slides: give --mpp 0.5 to cut tiles from them\n" in capsys.readouterr().err


def test_slides_in_two_folders(folder, capsys):
    (folder / "slides").mkdir()
    assert prepare(folder, "--mpp", "0.5") == 2
    assert "has slides/ and images/; keep the slides in one of the two\n" in capsys.readouterr().err


def test_camelyon16(tmp_path, capsys):
    for name in ("tumor_001", "tumor_002"):
        pixels = np.full((300, 300, 3), 100 if name == "tumor_001" else 120, np.uint8)
        write_pyramid(tmp_path / "slides" / f"{name}.tif", (300, 300, 3), [pixels], mpp=0.25, ome=False)
        corners = "".join(
            f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate([(40, 40), (90, 40), (90, 99)])
        )
        (tmp_path / "xml").mkdir(exist_ok=True)
        (tmp_path / "xml" / f"{name}.xml").write_text(
            '<ASAP_Annotations><Annotations><Annotation Name="1" Type="Polygon" PartOfGroup="_0" Color="#000000">'
            f"<Coordinates>{corners}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
        )
    command = ["camelyon16", str(tmp_path / "slides"), str(tmp_path / "xml"), "--output", str(tmp_path / "out")]
    assert main([*command, "--size", "64", "--folds", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tumor_001: 1 tumour region; 1 crop, 9.0% of them tumour\n")
    assert (tmp_path / "out" / "manifest.csv").is_file()
    file = tmp_path / "xml" / "tumor_002.xml"
    file.write_text(file.read_text().replace('PartOfGroup="_0"', 'PartOfGroup="None"'))
    other = [*command[:-1], str(tmp_path / "other"), "--size", "64", "--folds", "2"]
    assert main(other) == 2
    assert "an annotation without a label" in capsys.readouterr().err
    assert main([*other, "--unclassified", "target"]) == 0
    assert "tumor_002: 1 tumour region; 1 crop" in capsys.readouterr().out
    assert main([*command, "--size", "100"]) == 2
    assert capsys.readouterr().err == "cvm-monai: error: --size must be a multiple of 32 px, from 64, got 100\n"
