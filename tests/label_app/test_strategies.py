"""Which image or patch is next."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import Annotations, Point, write_geojson
from cvm_monai.interactive.next_place import lattice, mean_in
from cvm_monai.interactive.window import Window
from cvm_monai.label_app.strategies import First, MostUncertain, NextPatch, Random

ASKED = {"image": "a", "patch_size": [100, 100], "image_size": [0, 0]}


@pytest.fixture
def datastore(tmp_path):
    """One image of 250 x 200: white, and tissue from x = 100 on."""
    pixels = np.full((200, 250, 3), 245, np.uint8)
    pixels[:, 100:] = (180, 80, 140)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return SimpleNamespace(
        get_image_uri=lambda image_id: str(tmp_path / "a.png") if image_id == "a" else "",
        get_label_uri=lambda image_id, tag: str(label) if (label := tmp_path / "a.geojson").is_file() else "",
        folder=tmp_path,
    )


@pytest.fixture
def segmenter():
    return SimpleNamespace(settings=SimpleNamespace(classes={}))


@pytest.fixture
def following(segmenter):
    return NextPatch(segmenter)


def by_rows(_, patches):
    return -np.arange(len(patches))


def test_patches_cover_the_image_and_end_at_its_border():
    found = list(lattice((200, 250), (100, 100)))
    assert found == [Window(x, y, 100, 100) for y in (0, 100) for x in (0, 100, 150)]
    assert list(lattice((50, 60), (1024, 1024))) == [Window(0, 0, 60, 50)]


@pytest.mark.parametrize("size", [(1, 1), (100, 8)])
def test_patches_that_are_too_small_are_refused(size):
    with pytest.raises(ValueError, match="patch_size must be a width and a height from 16 px"):
        list(lattice((200, 250), size))
    with pytest.raises(ValueError, match="patch_size must be"):
        list(lattice((10**6, 10**6), (16, 16)))


def test_the_next_patch_is_of_tissue_and_another_each_time(following, datastore):
    boxes = [following(ASKED, datastore, by_rows)["bbox"] for _ in range(5)]
    assert boxes == [[100, 0, 100, 100], [150, 0, 100, 100], [100, 100, 100, 100], [150, 100, 100, 100], boxes[0]]


def test_an_annotated_patch_is_passed_over(following, datastore):
    write_geojson(datastore.folder / "a.geojson", Annotations((Point(120.5, 10.5, 1), Point(230.5, 20.5, 0))))
    assert following(ASKED, datastore, by_rows) == {"id": "a", "bbox": [100, 100, 100, 100]}


def test_without_an_image_there_is_no_patch(following, datastore):
    assert following({"image": "", "patch_size": [100, 100]}, datastore, by_rows) is None


def test_an_image_of_the_client_alone_has_patches_too(following, datastore):
    found = following({"image": "mine", "patch_size": [64, 64], "image_size": [640, 64]}, datastore, by_rows)
    assert found["id"] == "mine"
    assert found["bbox"][1:] == [0, 64, 64]


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"image": "mine"}, "there is no image 'mine' on the server"),
        ({"image": 5}, "image must be an id"),
        ({"image": "a", "patch_size": "large"}, "patch_size must be made of pairs"),
        ({"image": "mine", "image_size": [1]}, "image_size must be made of pairs"),
    ],
)
def test_a_request_for_no_patch_is_refused(following, datastore, request_, message):
    with pytest.raises(ValueError, match=message):
        following(request_, datastore, by_rows)


def test_a_map_is_averaged_in_each_patch():
    values = np.array([[0.0, 1.0], [2.0, 4.0]])
    patches = [Window(0, 0, 50, 50), Window(50, 50, 50, 50), Window(0, 0, 100, 100), Window(99, 0, 1, 1)]
    np.testing.assert_allclose(mean_in(values, (100, 100), patches), [0, 4, 1.75, 1])


def test_without_an_image_in_the_request_the_first_one_without_a_label_is_next(segmenter, datastore):
    datastore.get_unlabeled_images = lambda: ["c", "b"]
    assert First(segmenter)({}, datastore) == {"id": "b"}
    assert Random(segmenter)({}, datastore)["id"] in ("b", "c")
    datastore.get_unlabeled_images = list
    assert First(segmenter)({}, datastore) is None


def test_the_uncertainty_of_an_untrained_network_is_not_asked(segmenter, datastore):
    segmenter.current = SimpleNamespace(get=lambda: SimpleNamespace(trained=False))
    with pytest.raises(ValueError, match="there is no trained network yet to compute an uncertainty with"):
        MostUncertain(segmenter)({}, datastore)
