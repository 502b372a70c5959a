"""The mistakes that broken inputs have found, each by the smallest input that shows it."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
import tifffile

from cvm_monai.annotations import read_annotations
from cvm_monai.annotations.class_map import read_class_map
from cvm_monai.annotations.files import read_json, shown
from cvm_monai.data.check import binary_mask, class_mask
from cvm_monai.data.datalist import read_datalist
from cvm_monai.engines import recorded
from cvm_monai.registry.trained import read_trained
from cvm_monai.slides import image_size, open_image

from .broken_images import lying_png, noise_image

DIGITS = "9" * 5000
"""More than Python converts to a whole number."""


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_number_of_thousands_of_digits_is_refused_with_its_file(tmp_path, name):
    data = f'{{"type": "Point", "coordinates": [{DIGITS}, 1]}}'.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    sentence = rf"^{tmp_path}/{name}: not valid JSON \(a whole number of thousands of digits\)$"
    for read in (read_annotations, read_json):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / name)


def test_a_class_map_of_thousands_of_digits_is_refused():
    with pytest.raises(ValueError, match=r"^--classes is not valid JSON"):
        read_class_map(f'{{"a": {DIGITS}}}')
    with pytest.raises(ValueError, match=r"the class map gives 'a' the meaning '999.*[.]{3}: use one of"):
        read_class_map(f'{{"a": "{DIGITS}"}}')
    with pytest.raises(ValueError, match=r"^--classes is not valid JSON \(nested too deeply\)"):
        read_class_map('{"a":' + "[" * 100_000)


def test_a_label_of_thousands_of_digits_names_no_value_of_a_mask():
    mask = np.array([[0, 1]], np.uint8)
    np.testing.assert_array_equal(binary_mask(mask, classes={DIGITS: "background"}), mask)
    np.testing.assert_array_equal(class_mask(mask, classes={DIGITS: "target", "other": 2}), mask)


def test_a_class_map_that_means_nothing_is_named_by_its_file(tmp_path):
    for content, sentence in (({"a": "cancer"}, "meaning 'cancer'"), ({"a": {"class": 1, "color": "x"}}, "colour 'x'")):
        (tmp_path / "classes.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"^{tmp_path}/classes.json: the class map gives 'a' the {sentence}: use"):
            read_class_map(str(tmp_path / "classes.json"))


def asap(inner):
    return f"<ASAP_Annotations><Annotations>{inner}</Annotations></ASAP_Annotations>"


def test_an_annotation_keeps_its_own_vertices_apart_from_those_of_one_inside_it(tmp_path):
    inner = '<Annotation PartOfGroup="background"><Coordinate X="5" Y="6"/></Annotation>'
    outer = f'<Annotation PartOfGroup="target"><Coordinates><Coordinate X="1" Y="2"/></Coordinates>{inner}</Annotation>'
    (tmp_path / "a.xml").write_text(asap(outer))
    assert [(point.x, point.y, point.label) for point in read_annotations(tmp_path / "a.xml").points] == [
        (1, 2, 1), (5, 6, 0)
    ]  # fmt: skip


def test_thousands_of_nested_annotations_take_no_time_that_grows_with_their_square(tmp_path):
    count = 50_000  # by the square: minutes
    (tmp_path / "a.xml").write_text(asap("<Annotation>" * count + "</Annotation>" * count))
    assert read_annotations(tmp_path / "a.xml").counts == {"empty Polygon": count}


def test_a_sentence_quotes_the_beginning_of_a_long_value(tmp_path):
    (tmp_path / "a.xml").write_text(
        asap(f'<Annotation PartOfGroup="{"x" * 9999}"><Coordinate X="1" Y="2"/></Annotation>')
    )
    with pytest.raises(ValueError, match="unknown label 'xxx") as refused:
        read_annotations(tmp_path / "a.xml")
    assert len(str(refused.value)) < 500
    assert shown("short") == "'short'"
    assert len(shown("x" * 61)) == 60


def test_of_many_unknown_labels_twenty_are_named_and_the_rest_is_counted(tmp_path):
    rows = "".join(f"1,1,label {number}\n" for number in range(25))
    (tmp_path / "a.csv").write_text("x,y,label\n" + rows)
    with pytest.raises(ValueError, match=r"'label 18' \(1\), 'label 19' \(1\) and 5 more; allowed"):
        read_annotations(tmp_path / "a.csv")


def test_a_header_that_claims_more_than_its_bytes_can_hold_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(lying_png(noise_image(np.random.default_rng(0)), 2**14, 2**14))
    with pytest.raises(ValueError, match=r"a.png cannot .*: its \d+ bytes cannot hold the 16384 x 16384 px that it"):
        image_size(tmp_path / "a.png")


def test_the_densest_image_that_a_png_can_hold_is_read(tmp_path):
    side = 2**14  # one bit for a pixel, all of them 0: 32 MiB in 32 KiB
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes(side * (side // 8 + 1)), 9)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert image_size(tmp_path / "a.png") == (side, side)


def test_an_image_without_pixels_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(lying_png(noise_image(np.random.default_rng(0)), 5, 0))
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image: (it has no pixels|unknown or damaged)"):
        open_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    data[place : place + 2] = b"\0\0"
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.tif cannot be (read|opened) as an image: "):
        open_image(tmp_path / "a.tif")


def test_a_large_label_image_is_refused_by_its_header(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", shape=(2**15, 2**14), dtype=np.uint8, compression=None)
    with pytest.raises(ValueError, match=r"a.tif cannot .*16384 x 32768 px are too many for a label image"):
        read_annotations(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "name, value, what",
    [
        ("network", ["unet"], "one of resnet34_unet"),
        ("network_channels", [4, [], 8, 8, 8], "null or five whole numbers"),
        ("network_channels", [10**9] * 5, "null or five whole numbers from 1 to 4096"),
        ("network_channels", "abcde", "null or five whole numbers"),
        ("classes", 1e9, "a whole number from 2 to 255"),
        ("scale", "1", "a number greater than 0"),
        ("mpp", float("nan"), "null or a number greater than 0"),
        ("image_mean", ["", 0, 0], "three numbers"),
        ("image_std", [0, 1, 1], "three numbers greater than 0"),
        ("stain_normalisation", 3, "null or a method's name"),
        ("extractor_path", 3, "null, the path of a file, or timm:NAME"),
        ("pairs", True, "a whole number of at least 1"),
        ("fold", -1, "a whole number of at least 0"),
    ],
)
def test_a_recorded_setting_that_no_training_has_is_named_with_its_file(tmp_path, name, value, what):
    (tmp_path / "run.json").write_text(json.dumps({"status": "FINISHED", "knobs": {name: value}}))
    sentence = rf"^{tmp_path}/run.json: {name} must be {what}.*, found .*: train again, or restore the file$"
    with pytest.raises(ValueError, match=sentence):
        recorded(output_dir=str(tmp_path), key=name, default=None)
    with pytest.raises(ValueError, match=sentence):
        read_trained(tmp_path)


def test_a_record_that_is_nested_too_deeply_is_no_record(tmp_path):
    (tmp_path / "run.json").write_text('{"knobs": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"run.json is not a record of a training"):
        recorded(output_dir=str(tmp_path), key="mpp", default=None)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["long", "zero"])
def test_a_data_list_with_a_name_that_no_file_has_is_refused(tmp_path, name):
    case = {"case_id": "a", "patient_id": "a", "image": name, "points": None, "sha256": {}, "fold": 0}
    content = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"datalist.json, case a: the image file .* (cannot be found|does not exist)"):
        read_datalist(tmp_path)


def test_a_tiff_whose_width_has_several_values_is_refused(tmp_path):
    options = {"extratags": [(33000, "I", 2, (5, 6), False)], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint16), photometric="rgb", **options)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        width, pair = (file.pages.first.tags[name] for name in ("ImageWidth", 33000))
    data[width.offset + 2 : width.offset + 12] = data[pair.offset + 2 : pair.offset + 12]
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.tif cannot be read as an image: its header is damaged"):
        image_size(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif cannot be (opened|read) as an image: "):
        open_image(tmp_path / "a.tif")
