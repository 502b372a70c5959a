"""Which images are segmented, and how they are read."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.inference import ReadImaged, find_images


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)
    return path


def test_images_of_the_sub_folder_come_first_in_the_order_of_their_names(tmp_path):
    save(tmp_path / "thumbnail.png")
    save(tmp_path / "images" / "b.PNG")
    save(tmp_path / "images" / "a.tif")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    save(tmp_path / "images" / ".hidden.png")
    assert find_images(tmp_path) == [
        {"case_id": "a", "image": str(tmp_path / "images" / "a.tif"), "mpp": None},
        {"case_id": "b", "image": str(tmp_path / "images" / "b.PNG"), "mpp": None},
    ]


def test_images_directly_in_the_folder_are_found(tmp_path):
    save(tmp_path / "a.jpg")
    assert [record["case_id"] for record in find_images(tmp_path, image_mpp=0.5)] == ["a"]
    assert find_images(tmp_path, image_mpp=0.5)[0]["mpp"] == 0.5


def test_named_images_keep_their_order_and_may_lie_anywhere(tmp_path):
    save(tmp_path / "data" / "images" / "a.png")
    save(tmp_path / "data" / "b.png")
    elsewhere = save(tmp_path / "c.png")
    found = find_images(tmp_path / "data", images=[str(elsewhere), "b.png", "a.png"])
    assert [record["case_id"] for record in found] == ["c", "b", "a"]
    assert [record["case_id"] for record in find_images(tmp_path / "data", images="b.png")] == ["b"]


def test_a_prepared_folder_gives_its_images_and_their_pixel_sizes(tmp_path):
    image = save(tmp_path / "original" / "images" / "a.png")
    case = {
        "case_id": "a",
        "patient_id": "p",
        "image": str(image),
        "points": None,
        "mpp": 0.25,
        "sha256": {},
        "fold": 0,
    }
    content = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "datalist.json").write_text(json.dumps(content))
    expected = [{"case_id": "a", "image": str(image.resolve()), "mpp": 0.25}]
    assert find_images(tmp_path / "prepared") == expected
    assert find_images(tmp_path / "prepared", image_mpp=0.5)[0]["mpp"] == 0.5


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no image in .*images or .*\.png.*--images"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no image in"):
        find_images(tmp_path, images=[])


def test_a_missing_or_unreadable_image_is_named(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "z.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"z\.png cannot be read as an image"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match=r"the image c\.png is neither in .*images, nor in"):
        find_images(tmp_path, images=["a.png", "c.png"])


def test_two_images_of_one_name_are_refused(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.png and .*a\.tif would both be written as a: rename one"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="would both be written as a"):
        find_images(tmp_path, images=["a.png", "a.png"])


def test_um_per_px_are_the_users_else_the_data_lists_else_the_files(tmp_path):
    for name, mpp in {"a": 0.5, "b": 352.8}.items():
        options = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((4, 4, 3), np.uint8), photometric="rgb", **options)
    save(tmp_path / "c.png")
    assert [record["mpp"] for record in find_images(tmp_path)] == [pytest.approx(0.5), None, None]
    assert [record["mpp"] for record in find_images(tmp_path, image_mpp=0.3)] == [0.3] * 3
    case = {"case_id": "a", "patient_id": "p", "image": "a.tif", "points": None, "mpp": 0.7, "sha256": {}, "fold": 0}
    content = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    assert [record["mpp"] for record in find_images(tmp_path)] == [0.7, None, None]


def test_images_whose_channels_nobody_named_are_refused_before_the_first_is_segmented(tmp_path):
    save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((3, 8, 8), np.uint8), imagej=True)
    with pytest.raises(ValueError, match=r"z\.tif cannot be read as an image: its channels are separate pages"):
        find_images(tmp_path)


def test_an_image_of_12_bits_is_read_bright_with_a_warning(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4, 3), 4080, np.uint16), photometric="rgb")
    (record,) = find_images(tmp_path)
    assert ReadImaged()(record)["image"].min() == 255
    assert "taken for 12 bits" in caplog.text
