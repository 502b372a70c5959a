"""Slides of which a part was scanned: coordinates from the corner of level 0, or of that part."""

import numpy as np
import pytest

from cvm_monai.annotations import Annotations, Region, write_geojson
from cvm_monai.slides import Bounds, corner, open_image, read_tissue_mask, warnings_of

PART = (100, 50, 60, 40)


@pytest.fixture
def slide(partly_scanned, tmp_path):
    with open_image(partly_scanned(tmp_path / "a.mrxs", np.full((128, 256, 3), 200, np.uint8), PART)) as image:
        yield image


def test_a_slide_knows_its_scanned_part_and_where_coordinates_count_from(slide):
    assert slide.bounds == Bounds(100, 50, 60, 40)
    assert (corner(slide, "level0"), corner(slide, "bounds")) == ((0, 0), (100, 50))


@pytest.mark.parametrize("part", [None, (0, 0, 256, 128)])
def test_a_slide_that_was_scanned_as_a_whole_has_one_corner(partly_scanned, tmp_path, part):
    with open_image(partly_scanned(tmp_path / "a.mrxs", np.zeros((128, 256, 3), np.uint8), part)) as image:
        assert image.bounds is None
        assert (corner(image, "level0"), corner(image, "bounds")) == ((0, 0), (0, 0))
        assert warnings_of(image, "bounds") == ()


def test_the_warning_becomes_a_note_where_coordinates_count_as_qupaths_do(slide):
    (warning,) = warnings_of(slide, "level0")
    assert "were scanned, and QuPath counts coordinates from there; here they count from the corner of all" in warning
    assert "give --origin bounds where the command has it, or open the slide in QuPath with --no-crop" in warning
    (note,) = warnings_of(slide, "bounds")
    assert note.endswith("coordinates count from (100, 50), the corner of the part that was scanned, as QuPath's do")


def test_an_unknown_origin_is_refused(slide):
    with pytest.raises(ValueError, match="--origin must be one of level0, bounds, got 'qupath'"):
        corner(slide, "qupath")


def test_tissue_that_was_drawn_in_qupath_lies_where_it_was_drawn(slide, tmp_path):
    square = Region(((8, 16), (40, 16), (40, 32), (8, 32)), (((16, 20), (24, 20), (24, 24), (16, 24)),), 1)
    write_geojson(tmp_path / "a.geojson", Annotations((), (square,)))
    expected = np.zeros((128, 256), bool)
    expected[66:82, 108:140] = True
    expected[70:74, 116:124] = False
    found = read_tissue_mask(tmp_path / "a.geojson", slide, mpp=0.5, origin="bounds")
    np.testing.assert_array_equal(found.mask, expected)
    np.testing.assert_array_equal(
        read_tissue_mask(tmp_path / "a.geojson", slide, mpp=0.5).mask, np.roll(expected, (-50, -100), (0, 1))
    )
