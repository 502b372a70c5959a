"""Segmentations as files, read back by others."""

import gzip
import json
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import shapely
from PIL import Image

from cvm_monai.annotations import Region, rasterise_regions, read_annotations
from cvm_monai.interactive.outlines import Outlines
from cvm_monai.interactive.prediction import Prediction
from cvm_monai.interactive.window import Window
from cvm_monai.label_app.outputs import contour_annotations, keyhole_ring, output_kind, write_output

NAMES = ("background", "target")
CLASSES = {"target (predicted)": "target"}
POLYGONS = {"geojson": "a.geojson", "asap": "a.xml", "dsa": "a.json"}


def ring_with_island():
    """A ring, an island in its hole, and a second hole: (12, 16)."""
    labels = np.zeros((12, 16), np.uint8)
    labels[1:11, 1:15] = 1
    labels[3:9, 3:8] = 0
    labels[5:7, 4:6] = 1
    labels[4:6, 10:12] = 0
    return labels


def segmented(labels, *, window=None, image_shape=None, probability=None, mpp=None, simplify=1.0):
    height, width = labels.shape
    window = window or Window(0, 0, width, height)
    return Outlines(Prediction(labels, probability, window, image_shape or (height, width), NAMES, mpp), simplify)


@pytest.mark.parametrize("kind", POLYGONS)
def test_polygons_cover_the_pixels_with_their_holes(tmp_path, kind):
    labels = ring_with_island()
    path = tmp_path / POLYGONS[kind]
    assert write_output(path, segmented(labels, simplify=0), kind) == 2
    found = read_annotations(path, classes=CLASSES, image_shape=labels.shape)
    drawn = rasterise_regions(found.regions, image_shape=labels.shape, map_shape=labels.shape)
    np.testing.assert_array_equal(drawn == 1, labels == 1)


def test_the_class_is_name_and_group_in_asaps_xml(tmp_path):
    """QuPath's plug-in takes the name for the class, ASAP the group."""
    write_output(tmp_path / "a.xml", segmented(ring_with_island()), "asap")
    found = ElementTree.parse(tmp_path / "a.xml").getroot().findall(".//Annotation")
    assert len(found) == 2
    assert {element.get("Name") for element in found} == {"target (predicted)"}
    assert {element.get("PartOfGroup") for element in found} == {"target (predicted)"}


@pytest.mark.parametrize("kind", POLYGONS)
def test_a_region_of_a_slide_lies_where_it_was_cut(tmp_path, kind):
    labels = np.zeros((4, 4), np.uint8)
    labels[1:3, 1:4] = 1
    path = tmp_path / POLYGONS[kind]
    found = segmented(labels, window=Window(100, 200, 8, 8), image_shape=(999, 999), simplify=0)
    write_output(path, found, kind)
    (region,) = read_annotations(path, classes=CLASSES, image_shape=(999, 999)).regions
    assert shapely.Polygon(region.exterior).bounds == (102, 202, 108, 206)


@pytest.mark.parametrize("seed", range(5))
def test_a_keyhole_ring_covers_what_the_polygon_with_holes_covers(seed):
    rng = np.random.default_rng(seed)
    outer = shapely.Point(50, 50).buffer(45)
    holes = shapely.union_all([shapely.Point(*rng.uniform(20, 80, 2)).buffer(rng.uniform(2, 8)) for _ in range(9)])
    polygon = max(shapely.get_parts(outer.difference(holes)), key=shapely.area)
    rings = [tuple(map(tuple, np.asarray(ring.coords)[:-1])) for ring in (polygon.exterior, *polygon.interiors)]
    ring = keyhole_ring(Region(rings[0], tuple(rings[1:]), 1))
    repaired = shapely.make_valid(shapely.Polygon(ring))
    assert len(polygon.interiors) > 2
    assert repaired.symmetric_difference(polygon).area < 1e-6


def test_a_keyhole_needs_its_hole_inside():
    square = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
    outside = tuple((x - 50, y + 50) for x, y in square)
    with pytest.raises(ValueError, match="lies outside its region"):
        keyhole_ring(Region(square, (outside,), 1))


def test_a_png_has_the_images_size_and_class_numbers(tmp_path):
    labels = ring_with_island()
    write_output(tmp_path / "a.png", segmented(labels), "png")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), labels)


def test_nifti_has_the_axes_x_y(tmp_path):
    labels = ring_with_island()
    write_output(tmp_path / "a.nii.gz", segmented(labels), "nifti")
    found = nibabel.load(tmp_path / "a.nii.gz")
    assert found.shape == (16, 12)
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, labels)


def test_an_nrrd_is_one_slice_as_3d_slicer_has_images(tmp_path):
    labels = ring_with_island()
    write_output(tmp_path / "a.nrrd", segmented(labels), "nrrd")
    head, _, packed = (tmp_path / "a.nrrd").read_bytes().partition(b"\n\n")
    assert b"sizes: 16 12 1\n" in head
    np.testing.assert_array_equal(np.frombuffer(gzip.decompress(packed), np.uint8).reshape(12, 16), labels)


def test_others_read_the_nrrd(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK comes with MONAI Label")
    labels = ring_with_island()
    write_output(tmp_path / "a.nrrd", segmented(labels), "nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert (image.GetSize(), image.GetSpacing(), image.GetOrigin()) == ((16, 12, 1), (1, 1, 1), (0, 0, 0))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], labels)


@pytest.mark.parametrize("kind", ["png", "nrrd"])
def test_a_label_image_of_the_whole_image_is_background_beside_the_window(tmp_path, kind):
    part = segmented(np.ones((2, 3), np.uint8), window=Window(4, 5, 3, 2), image_shape=(12, 16))
    write_output(tmp_path / "a", part, kind, whole=True)
    expected = np.zeros((12, 16), np.uint8)
    expected[5:7, 4:7] = 1
    if kind == "png":
        found = np.array(Image.open(tmp_path / "a"))
    else:
        packed = (tmp_path / "a").read_bytes().partition(b"\n\n")[2]
        found = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(12, 16)
    np.testing.assert_array_equal(found, expected)


def test_contours_for_cvat_cover_the_pixels_with_their_holes():
    labels = ring_with_island()
    (one,) = contour_annotations(segmented(labels, simplify=0), title="a.png")
    (element,) = one["annotation"]["elements"]
    assert element["label"] == "target (predicted)"
    drawn = shapely.union_all([shapely.make_valid(shapely.Polygon(ring)) for ring in element["contours"]])
    assert drawn.area == labels.sum()
    (none,) = contour_annotations(segmented(np.zeros((4, 4), np.uint8)))
    assert none["annotation"]["elements"] == []


def test_a_coarse_probability_is_resized_before_it_is_cut(tmp_path):
    probability = np.array([[0.0, 1.0]], np.float32)
    coarse = segmented((probability > 0.5).astype(np.uint8), window=Window(0, 0, 8, 4), probability=probability)
    write_output(tmp_path / "a.png", coarse, "png")
    expected = np.zeros((4, 8), np.uint8)
    expected[:, 4:] = 1
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), expected)


def test_a_label_image_of_a_whole_slide_is_refused(tmp_path):
    huge = segmented(np.zeros((4, 4), np.uint8), window=Window(0, 0, 100_000, 100_000))
    with pytest.raises(ValueError, match="ask for polygons"):
        write_output(tmp_path / "a.png", huge, "png")
    assert list(tmp_path.iterdir()) == []


def test_an_area_is_told_only_where_the_um_per_px_are_known(tmp_path):
    path = tmp_path / "a.geojson"
    for mpp, expected in ((None, None), (0.5, 0.25 * 4)):
        labels = np.zeros((4, 4), np.uint8)
        labels[1:3, 1:3] = 1
        write_output(path, segmented(labels, mpp=mpp), "geojson")
        (feature,) = json.loads(path.read_text())["features"]
        assert feature["properties"].get("measurements", {}).get("Predicted area µm^2") == expected


@pytest.mark.parametrize(
    "name, kind", [(".png", "png"), ("nii.gz", "nifti"), (".GeoJSON", "geojson"), ("asap", "asap")]
)
def test_a_kind_is_named_by_itself_or_its_suffix(name, kind):
    assert output_kind(name) == kind


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="result_extension must be one of"):
        output_kind(".exe")
