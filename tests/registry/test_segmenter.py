"""What a served model takes and gives, each wrong record with its sentence; its masks are the bundle's own."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import regions_from_labels
from cvm_monai.bundle_files import checked_bundle
from cvm_monai.registry.package import stage
from cvm_monai.registry.segmenter import (
    BundlePipeline,
    WrongRecordError,
    decode_png,
    encode_answer,
    encode_png,
    read_record,
)
from cvm_monai.registry.trained import read_trained

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    stream = io.BytesIO()
    image.save(stream, format=kind)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    "sent",
    [IMAGE, IMAGE.tolist(), encode_png(IMAGE), base64.b64decode(encode_png(IMAGE))],
    ids=lambda s: type(s).__name__,
)
def test_an_image_comes_as_array_list_text_or_bytes(sent):
    record = read_record({"image": sent, "mpp": 0.5})
    np.testing.assert_array_equal(record.image, IMAGE)
    assert record.image.dtype == np.uint8
    assert record.mpp == 0.5


def test_grey_becomes_rgb_and_transparency_lies_on_white_as_in_files():
    grey = read_record({"image": encoded(Image.new("L", (2, 1), 7))}).image
    np.testing.assert_array_equal(grey, np.full((1, 2, 3), 7))
    clear = read_record({"image": encoded(Image.new("RGBA", (2, 1), (0, 0, 0, 0)))}).image
    np.testing.assert_array_equal(clear, np.full((1, 2, 3), 255))


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_an_absent_mpp_is_none(absent):
    assert read_record({"image": IMAGE, "mpp": absent}).mpp is None


@pytest.mark.parametrize(
    "record, sentence",
    [
        ({}, r"no image: send an \(H, W, 3\) uint8 array"),
        ({"image": None}, "no image"),
        ({"image": "not base64!"}, "text but not base64"),
        ({"image": base64.b64encode(b"hello").decode()}, "not a PNG that can be decoded"),
        ({"image": encode_png(IMAGE)[:60]}, "not a PNG that can be decoded"),
        ({"image": IMAGE / 255.0}, r"\(2, 3, 3\) float64"),
        ({"image": IMAGE[..., 0]}, r"\(2, 3\) uint8"),
        ({"image": IMAGE[:0]}, r"\(0, 3, 3\) uint8"),
        ({"image": [[[0, 300, 5]]]}, "its image holds the value 300, outside 0 to 255: send"),
        ({"image": [[[0, -1, 5]]]}, "its image holds the value -1, outside 0 to 255: send"),
        ({"image": [[1, 2], [3]]}, "not a full array"),
        ({"image": IMAGE, "mpp": 0}, "its mpp is 0: send micrometres per pixel"),
        ({"image": IMAGE, "mpp": "0.5"}, "its mpp is '0.5'"),
        ({"image": IMAGE, "mpp": float("inf")}, "its mpp is inf"),
        ({"image": IMAGE, "mpp": True}, "its mpp is True"),
    ],
)
def test_a_wrong_record_has_its_sentence(record, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_record(record)


def test_of_two_classes_the_mask_is_white_above_one_half():
    found = encode_answer(np.array([[[0.0, 0.5, 0.51, 1.0]]]), classes=("background", "target"))
    np.testing.assert_array_equal(decode_png(found["mask"]), [[0, 0, 255, 255]])
    np.testing.assert_array_equal(decode_png(found["probability"]), [[0, 128, 130, 255]])
    assert set(found) == {"mask", "probability"}


def test_of_more_classes_the_mask_holds_numbers_and_each_has_a_probability():
    probabilities = np.array([[[0.6, 0.1]], [[0.3, 0.2]], [[0.1, 0.7]]])
    found = encode_answer(probabilities, classes=("background", "gland", "vessel"), polygons=True)
    np.testing.assert_array_equal(decode_png(found["mask"]), [[0, 2]])
    np.testing.assert_array_equal([decode_png(text)[0] for text in found["probability"]], [[76, 51], [26, 178]])
    (feature,) = found["polygons"]["features"]
    assert feature["properties"]["classification"]["name"] == "vessel"


def test_polygons_follow_the_pixels_edges_around_holes():
    labels = np.zeros((5, 6), dtype=np.uint8)
    labels[1:4, 1:4] = 1
    labels[2, 2] = 0
    labels[4, 4] = 1  # touches at a corner: a part of its own
    square, ring = sorted(regions_from_labels(labels), key=lambda region: len(region.holes))
    assert set(ring.exterior) == {(1, 1), (4, 1), (4, 4), (1, 4)}
    assert [set(hole) for hole in ring.holes] == [{(2, 2), (3, 2), (3, 3), (2, 3)}]
    assert set(square.exterior) == {(4, 4), (5, 4), (5, 5), (4, 5)}


def test_no_target_no_polygon():
    assert regions_from_labels(np.zeros((3, 3), dtype=np.uint8)) == ()
    found = encode_answer(np.zeros((1, 3, 3)), classes=("background", "target"), polygons=True)
    assert found["polygons"] == {"type": "FeatureCollection", "features": []}


def test_the_polygons_cover_exactly_the_mask():
    shapely = pytest.importorskip("shapely")
    mask = np.random.default_rng(0).random((20, 25)) > 0.5
    regions = regions_from_labels(mask.astype(np.uint8))
    shapes = [shapely.Polygon(region.exterior, region.holes) for region in regions]
    assert all(shape.is_valid for shape in shapes)
    rows, columns = np.nonzero(np.ones_like(mask))
    inside = np.any([shapely.contains_xy(shape, columns + 0.5, rows + 0.5) for shape in shapes], axis=0)
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)


def test_an_error_is_its_sentence_alone_whatever_the_server_puts_before_it():
    error = WrongRecordError.invalid_parameter_value("record 1: its image is no PNG")
    error.message = f"Failed to predict data '{'A' * 250_000}'. \nError: {error.message}"  # as MLflow's server does
    assert error.message == "record 1: its image is no PNG"
    assert len(error.serialize_as_json()) < 300


def pipeline_of(output, folder) -> BundlePipeline:
    return BundlePipeline(stage(read_trained(output), folder / "staged", bundle=checked_bundle()), device="cpu")


def test_an_image_of_another_um_per_px_is_resampled_and_answered_at_its_own_size(
    finished, images, bundle_masks, tmp_path
):
    output = finished(mpp=0.5)
    pipeline = pipeline_of(output, tmp_path)
    for name, expected in bundle_masks(output, image_mpp=0.8).items():
        image = np.array(Image.open(images / f"{name}.png"))
        found = pipeline(image, mpp=0.8)
        assert found.shape == (1, *image.shape[:2])
        np.testing.assert_array_equal(found[0] > 0.5, expected > 0)
        assert (found != pipeline(image, mpp=0.5)).any()


def test_three_classes_are_told_apart_as_by_the_bundle(finished, images, bundle_masks, tmp_path):
    output = finished(classes=3)
    pipeline = pipeline_of(output, tmp_path)
    for name, expected in bundle_masks(output).items():
        found = pipeline(np.array(Image.open(images / f"{name}.png")))
        np.testing.assert_array_equal(found.argmax(axis=0), expected)


def test_a_network_of_known_um_per_px_wants_the_image_s(finished, tmp_path):
    pipeline = pipeline_of(finished(mpp=0.5), tmp_path)
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"no mpp, and the network was trained at 0.5 um/px"):
        pipeline(image)
    with pytest.raises(ValueError, match="64 x 64 px would become 1000 times as wide: check mpp"):
        pipeline(image, mpp=500)
