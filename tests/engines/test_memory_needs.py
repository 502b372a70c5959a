"""The least memory that a training can do with is known before it begins."""

import numpy as np
import pytest
from PIL import Image

from cvm_monai.data.datalist import Case, read_datalist, write_datalist
from cvm_monai.engines import memory_needs
from cvm_monai.engines.memory_needs import Need, check_fits, check_inference_memory, check_training_memory
from cvm_monai.free_memory import free_memory, gib
from cvm_monai.networks import efficientnet_lite

KNOBS = {
    "supervision": "cvm",
    "network": "unet",
    "network_channels": [4, 8, 8, 8, 8],
    "fold": 0,
    "seed": 0,
    "device": "cpu",
    "scale": 1.0,
    "mpp": None,
    "pairs": 5,
    "classes": 2,
    "crop_size": 64,
    "batch_size": 2,
    "accumulation_steps": 1,
    "combination": "mean",
}


MANY = {"pairs": 400, "scale": 12.0, "solver_spacing": 1}


@pytest.fixture
def datalist(tmp_path):
    """Six patients with an image of 256 x 200 px and 400 points of each class."""
    Image.fromarray(np.zeros((200, 256, 3), np.uint8)).save(tmp_path / "a.png")
    rows = [f"{x + 0.5},{y + 0.5},{'target' if x < 128 else 'background'}" for x in range(108, 148) for y in range(20)]
    points = tmp_path / "a.csv"
    points.write_text("x,y,label\n" + "\n".join(rows) + "\n")
    hashes = {"image": "0", "points": "0"}
    cases = [Case(f"c{n}", f"p{n}", tmp_path / "a.png", points, None, 0.5, hashes, n % 3) for n in range(6)]
    write_datalist(tmp_path / "datalist.json", cases)
    return read_datalist(tmp_path)


def refused(monkeypatch, datalist, *, free: float, **changes) -> str | None:
    monkeypatch.setattr(memory_needs, "free_memory", lambda: int(free))
    try:
        check_training_memory(KNOBS | changes, datalist)
    except ValueError as error:
        return str(error)
    return None


def test_a_network_on_an_encoder_by_name_is_weighed_without_its_weights(monkeypatch, datalist):
    monkeypatch.setattr(efficientnet_lite, "imagenet_file", lambda name: pytest.fail("looked for the package"))
    named = {"network": "timm_unet", "extractor_path": "imagenet"}
    assert refused(monkeypatch, datalist, free=2**30, **named) is None
    wide = refused(monkeypatch, datalist, free=2**31, **named, **{"network_channels": [4096] * 5})
    assert "the network, its gradients and Adam's moments" in wide
    assert refused(monkeypatch, datalist, free=2**30, network="timm_unet", extractor_path="timm:resnet18") is None


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"scale": 1000.0}, ["the 256000 x 200000 px of case c", "lower --scale"]),
        ({"mpp": 0.0005}, ["the 256000 x 200000 px of case c", "raise --mpp"]),
        ({"cache": 5.0, "scale": 60.0}, ["images of up to 15360 x 12000 px (c", "lower --cache, or lower --scale"]),
        ({"cache": 5.0, "mpp": 0.005}, ["images of up to 25600 x 20000 px (c", "raise --mpp"]),
        (MANY, ["the contrast maps of the 400 + 400 points of case c", "lower --pairs"]),
        ({"crop_size": 100_000}, ["the crops of 100000 x 100000 px of a step take", "lower --crop_size"]),
        ({"network_channels": [4096] * 5}, ["the network, its gradients and Adam's moments", "--network_channels"]),
    ],
)
def test_what_cannot_fit_is_refused_with_the_knob_that_asks_for_it(monkeypatch, datalist, changes, words):
    assert refused(monkeypatch, datalist, free=2**30) is None
    sentence = refused(monkeypatch, datalist, free=2**31, **changes)
    assert sentence.startswith("this run needs at least ")
    assert "of memory and 2.0 GiB are free: " in sentence
    for word in words:
        assert word in sentence


def test_methods_without_maps_for_points_and_evaluations_are_not_asked_for_them(monkeypatch, datalist):
    assert refused(monkeypatch, datalist, free=2**31, supervision="partial_ce", **MANY) is None
    check_training_memory(KNOBS | MANY, datalist, trains=False)


def test_hundreds_of_points_are_weighed_as_those_that_stand_for_them_on_the_grid_that_is_solved(monkeypatch, datalist):
    assert refused(monkeypatch, datalist, free=2**31, **MANY | {"scale": 6.0}) is None
    assert refused(monkeypatch, datalist, free=2**31, **MANY | {"solver_spacing": None}) is None


def test_an_image_that_cannot_fit_is_not_segmented(monkeypatch, datalist):
    monkeypatch.setattr(memory_needs, "free_memory", lambda: 2**30)
    records = [{"image": str(datalist.cases[0].image), "mpp": 0.5}]
    check_inference_memory(records, {"scale": 1.0, "mpp": None})
    check_inference_memory(records, {"scale": 1.0, "mpp": 0.25})
    with pytest.raises(ValueError, match=r"the 256000 x 200000 px of .*a\.png take .*; raise --mpp, or"):
        check_inference_memory(records, {"scale": 1.0, "mpp": 0.0005})


def test_where_the_system_does_not_say_nothing_is_refused():
    check_fits([Need(1e30, "all", "less")], free=None)
    with pytest.raises(ValueError, match=r"^this run needs at least 1\.0 GiB of memory on the GPU and 0\.5 GiB are"):
        check_fits([Need(2**30, "all", "less")], free=2**29, where=" on the GPU")


def test_sizes_in_words():
    assert [gib(size) for size in (2**29, 13 * 2**30, 5 * 2**40)] == ["0.5 GiB", "13 GiB", "5.0 TiB"]
    assert free_memory() is None or free_memory() > 0
