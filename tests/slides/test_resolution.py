"""Where the um/px comes from, and which are not believed."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.slides import Mpp, check_mpp, open_image, require_mpp
from cvm_monai.slides.resolution import decide_mpp
from cvm_monai.slides.tiff_metadata import ome_mpp

GREY = np.full((32, 32), 200, dtype=np.uint8)


def saved(path, **options):
    tifffile.imwrite(path, GREY, photometric="minisblack", **options)
    return path


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (4, 4), "resolutionunit": "NONE"}, None),
        ({}, None),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}, 0.5),
        ({"description": "Aperio Image Library v12\r\n32x32|AppMag = 20|MPP = 0,4990|Left = 3"}, 0.499),
    ],
    ids=str,
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_tags_and_descriptions(tmp_path, options, expected, tile):
    if tile and not options.get("imagej"):
        options = options | {"tile": tile}
    with open_image(saved(tmp_path / "a.tif", **options)) as image:
        assert image.mpp.value == (None if expected is None else pytest.approx(expected, rel=1e-6))
        assert image.mpp.source == ("none" if expected is None else "file")


@pytest.mark.parametrize(
    "unit, factor", [("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("pixel", None), ("reference frame", None)]
)
def test_ome_sizes_have_units(tmp_path, unit, factor):
    sizes = {f"PhysicalSize{axis}": 0.5 for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    with open_image(saved(tmp_path / "a.ome.tif", tile=(16, 16), metadata={"axes": "YX"} | sizes)) as image:
        assert image.mpp.value == (None if factor is None else pytest.approx(0.5 * factor))


def test_ome_wins_over_the_resolution_tags(tmp_path):
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    dpi = {"resolution": (72, 72), "resolutionunit": "INCH"}
    with open_image(saved(tmp_path / "a.ome.tif", tile=(16, 16), metadata=sizes, **dpi)) as image:
        assert image.mpp == Mpp(0.5, "file")


def test_hostile_or_damaged_ome_says_nothing():
    assert ome_mpp("<OME") is None
    assert ome_mpp('<!DOCTYPE a [<!ENTITY b "c">]><OME><Pixels PhysicalSizeX="1" PhysicalSizeY="1"/></OME>') is None
    assert ome_mpp("<OME><Image/></OME>") is None
    assert ome_mpp('<OME xmlns="x"><Image><Pixels PhysicalSizeX="1" PhysicalSizeY="2"/></Image></OME>') == (1, 2)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_the_dpi_of_pictures_is_no_resolution_of_a_microscope(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name, dpi=(50_800, 50_800))
    with open_image(tmp_path / name) as image:
        assert image.mpp == Mpp(None, "none")
        with pytest.raises(ValueError, match=rf"{name} does not state its um/px: give --mpp, for example"):
            image.read((0, 0), shape=(4, 4), mpp=0.5)
        with pytest.raises(ValueError, match=r"give --resolution"):
            require_mpp(image, flag="--resolution")
    with open_image(tmp_path / name, mpp=0.5) as image:
        assert (image.mpp, require_mpp(image), image.warnings) == (Mpp(0.5, "user"), 0.5, ())


def test_the_users_value_wins_with_a_warning_where_it_differs_by_more_than_a_tenth():
    assert decide_mpp("a", (0.5, 0.5), 0.54) == (Mpp(0.54, "user"), ())
    mpp, warnings = decide_mpp("a", (0.5, 0.5), 0.25)
    assert mpp == Mpp(0.25, "user")
    assert warnings == ("a: 0.25 um/px were given and are used; the file says 0.5",)


def test_pixels_that_are_not_square():
    assert decide_mpp("a", (0.5, 0.5025), None) == (Mpp(0.50125, "file"), ())
    mpp, warnings = decide_mpp("a", (0.5, 0.52), None)
    assert mpp.value == pytest.approx(0.51)
    assert warnings == ("a: the file says 0.5 um/px across and 0.52 down; 0.51 is used for both",)
    mpp, warnings = decide_mpp("a", (0.25, 0.5), None)
    assert mpp == Mpp(None, "none")
    assert warnings == ("a: the file says 0.25 um/px across and 0.5 down, which is not believed",)


@pytest.mark.parametrize("found", [(0.0, 0.5), (float("nan"), 0.5), (-1.0, -1.0), (float("inf"), float("inf")), None])
def test_numbers_that_are_none(found):
    assert decide_mpp("a", found, None) == (Mpp(None, "none"), ())


def test_a_resolution_that_no_microscope_has_is_refused_unless_forced():
    for found in (0.099, 10.1, 352.8):
        with pytest.raises(ValueError, match=f"{found:.4g} um/px is not a resolution of a microscope .*--force_mpp"):
            check_mpp(found, 0.5)
        check_mpp(found, 0.5, force=True)
    check_mpp(0.1, None)
    check_mpp(10, None)


def test_more_than_twice_off_the_models_is_refused_unless_forced():
    for found in (0.24, 1.01):
        with pytest.raises(ValueError, match=r"more than 2 times off the model's 0\.5: .*--mpp, or --force_mpp"):
            check_mpp(found, 0.5)
        check_mpp(found, 0.5, force=True)
    check_mpp(0.25, 0.5)
    check_mpp(1.0, 0.5)


def test_a_screen_resolution_in_a_tiff_is_read_and_then_refused(shared_dir):
    with open_image(shared_dir / "formats/bad/boxes.tiff") as image:
        assert image.mpp.value == pytest.approx(352.778, abs=1e-3)
        with pytest.raises(ValueError, match=r"352\.8 um/px is not a resolution of a microscope"):
            check_mpp(image.mpp.value, 0.5)


@pytest.mark.parametrize(
    "unit, factor",
    [
        ("cm", 1e4), ("inch", 25_400), ("m", 1e6), ("mm", 1e3), ("nm", 1e-3), ("micron", 1), ("\\u00B5m", 1),
        ("Inches", 25_400), ("meter", 1e6), ("Micrometers", 1), ("micrometres", 1), ("millimetre", 1e3), ("km", 1e9),
        ("pixel", None), ("pixels", None), ("parsec", None),
    ],
)  # fmt: skip
def test_imagej_counts_pixels_for_each_of_its_units(tmp_path, unit, factor):
    pixels_per_unit = (factor or 1) / 0.5
    options = {"imagej": True, "resolution": (pixels_per_unit, pixels_per_unit), "metadata": {"unit": unit}}
    with open_image(saved(tmp_path / "a.tif", **options)) as image:
        assert image.mpp.value == (None if factor is None else pytest.approx(0.5, rel=1e-6))


@pytest.mark.parametrize(
    "unit, factor", [("pt", 25_400 / 72), ("thou", 25.4), ("ft", 304_800), ("km", 1e9), ("pixel", None)]
)
def test_ome_lengths_have_any_unit(tmp_path, unit, factor):
    length = {f"PhysicalSize{axis}": 0.5 / (factor or 1) for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    options = {"ome": True, "metadata": {"axes": "YX", **length, **units}}
    with open_image(saved(tmp_path / "a.ome.tif", **options)) as image:
        assert image.mpp.value == (None if factor is None else pytest.approx(0.5, rel=1e-6))


def test_imagej_without_a_unit_has_the_resolution_of_the_tags(tmp_path):
    options = {"imagej": True, "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with open_image(saved(tmp_path / "a.tif", **options)) as image:
        assert image.mpp.value == pytest.approx(0.5)
