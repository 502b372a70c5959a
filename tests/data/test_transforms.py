"""From a record on disk to what a network is fed: positions written out, alignment read off the values themselves."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandFlipd, RandRotate90d
from PIL import Image

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.data.transforms import JoinPseudoLabeld, LoadCased, RandColourJitterd, RandCropToPointsd

KEYS = ["image", "label", "mask", "pseudo_label"]
COLUMNS = 128


def feature(kind, coordinates, label):
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"classification": {"name": label}},
    }


def save_case(folder: Path, *features, size=(8, 6), mask=None, mpp=None) -> dict:
    """A record whose image holds (x, y, 7) in its channels; `size` is (width, height)."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    Image.fromarray(np.dstack([x, y, np.full_like(x, 7)])).save(folder / "a.png")
    record = {
        "case_id": "a",
        "patient_id": "p",
        "image": str(folder / "a.png"),
        "points": None,
        "mask": None,
        "mpp": mpp,
    }
    if features:
        (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
        record["points"] = str(folder / "a.geojson")
    if mask is not None:
        Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(folder / "mask.png")
        record["mask"] = str(folder / "mask.png")
    return record


def drawn(label: torch.Tensor) -> list[str]:
    """A label map as text: T target, b background, . unlabelled."""
    return ["".join({1: "T", 0: "b", 255: "."}[int(value)] for value in row) for row in label[0]]


def test_points_become_squares_at_their_own_pixels(tmp_path):
    record = save_case(tmp_path, feature("Point", [5.9, 1.2], "target"), feature("Point", [0.5, 5.5], "background"))
    item = LoadCased()(record)
    assert drawn(item["label"]) == [
        "....TTT.",
        "....TTT.",
        "....TTT.",
        "........",
        "bb......",
        "bb......",
    ]
    assert item["in_points"].tolist() == [[1, 5]]
    assert item["out_points"].tolist() == [[5, 0]]
    assert item["label"].dtype == torch.uint8


def test_image_is_channel_first_and_untouched_at_scale_one(tmp_path):
    item = LoadCased()(save_case(tmp_path))
    assert item["image"].dtype == torch.uint8
    assert item["image"].shape == (3, 6, 8)
    assert item["image"][0, 2].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert item["image"][1, :, 3].tolist() == [0, 1, 2, 3, 4, 5]
    assert item["case_id"] == "a"
    assert (item["image_shape"], item["full_shape"]) == ((6, 8), (6, 8))


def test_scale_moves_points_and_shrinks_every_grid(tmp_path):
    point = feature("Point", [5.9, 1.2], "target")
    item = LoadCased(scale=0.5, point_size=1)(save_case(tmp_path, point, mask=np.eye(6, 8)))
    assert item["image"].shape == (3, 3, 4)
    assert drawn(item["label"]) == ["..T.", "....", "...."]
    assert item["in_points"].tolist() == [[0, 2]]
    assert item["mask"].shape == (1, 3, 4)
    assert (item["image_shape"], item["full_shape"]) == ((3, 4), (6, 8))


def test_shrinking_averages_over_the_footprint(tmp_path):
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "a.png")
    item = LoadCased(scale=0.25)({"case_id": "a", "image": str(tmp_path / "a.png")})
    # a triangle over eight pixels about columns 2 and 6: of its weights (5 7 7 5 3 1) / 28 the stripes have 15 and 13
    assert item["image"].tolist() == [[[107, 93]] * 2] * 3


def test_mpp_is_the_ratio_of_the_images_own_to_the_wanted(tmp_path):
    record = save_case(tmp_path, feature("Point", [5.9, 1.2], "target"), mpp=0.5)
    item = LoadCased(mpp=1.0, scale=3.0, point_size=1)(record)
    assert item["image_shape"] == (3, 4)
    assert item["in_points"].tolist() == [[0, 2]]
    assert LoadCased(mpp=0.25)(record)["image_shape"] == (12, 16)


def test_asking_for_mpp_of_a_case_without_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"case a has no um/px: add a column mpp to cases\.csv .* or use --scale"):
        LoadCased(mpp=1.0)(save_case(tmp_path))


@pytest.mark.parametrize("name", ["scale", "mpp"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_sizes_that_are_no_size_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be greater than 0, got {value!r}"):
        LoadCased(**{name: value})


def test_grid_of_a_coarse_network_rounds_up(tmp_path):
    record = save_case(
        tmp_path, feature("MultiPoint", [[32.9, 0.5], [10.5, 32.5]], "target"), size=(48, 33), mask=np.ones((33, 48))
    )
    item = LoadCased(stride=16, point_size=1)(record)
    assert item["image"].shape == (3, 33, 48)
    assert drawn(item["label"]) == ["..T", "...", "T.."]
    assert item["in_points"].tolist() == [[0, 2], [2, 0]]
    assert item["mask"].shape == (1, 3, 3)


def test_only_the_first_pairs_of_each_class_are_used(tmp_path):
    target = feature("MultiPoint", [[0.5, 0.5], [2.5, 0.5], [4.5, 0.5]], "target")
    background = feature("MultiPoint", [[0.5, 3.5], [2.5, 3.5]], "background")
    item = LoadCased(pairs=2, point_size=1)(save_case(tmp_path, target, background))
    assert item["in_points"].tolist() == [[0, 0], [0, 2]]
    assert item["out_points"].tolist() == [[3, 0], [3, 2]]
    assert drawn(item["label"])[0] == "T.T....."


def test_a_region_labels_its_pixels_and_gives_points_inside(tmp_path):
    square = feature("Polygon", [[[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]], "target")
    item = LoadCased()(save_case(tmp_path, square))
    assert drawn(item["label"]) == ["........", ".TTT....", ".TTT....", "........", "........", "........"]
    inside = {tuple(point) for point in item["in_points"].tolist()}
    assert len(inside) == 5
    assert inside < {(row, column) for row in (1, 2) for column in (1, 2, 3)}
    assert item["out_points"].shape == (0, 2)
    again = LoadCased()(save_case(tmp_path, square))
    np.testing.assert_array_equal(again["in_points"], item["in_points"])


def test_an_exclusion_region_is_unlabelled_and_gives_no_points(tmp_path):
    target = feature("Polygon", [[[0, 0], [4, 0], [4, 1], [0, 1], [0, 0]]], "target")
    exclusion = feature("Polygon", [[[2, 0], [4, 0], [4, 1], [2, 1], [2, 0]]], "exclusion")
    item = LoadCased()(save_case(tmp_path, target, exclusion))
    assert drawn(item["label"])[0] == "TT......"
    assert item["out_points"].shape == (0, 2)


def test_without_points_nothing_is_labelled(tmp_path):
    item = LoadCased()(save_case(tmp_path))
    assert (item["label"] == 255).all()
    assert item["in_points"].shape == item["out_points"].shape == (0, 2)
    assert item["in_points"].dtype == item["out_points"].dtype == np.int64


def test_a_record_of_image_and_label_is_the_case_of_its_image_and_points(tmp_path):
    record = save_case(tmp_path, feature("Point", [2.5, 1.5], "target"), feature("Point", [6.5, 4.5], "background"))
    known, short = (LoadCased()(given) for given in (record, {"image": record["image"], "label": record["points"]}))
    assert short["case_id"] == "a"
    assert torch.equal(short["label"], known["label"])
    assert (short["label"] != 255).any()


def test_a_point_outside_the_image_names_the_case(tmp_path):
    record = save_case(tmp_path, feature("Point", [8.5, 1.5], "target"))
    with pytest.raises(ValueError, match=r"case a: the point \(8\.5, 1\.5\) lies outside the image of 8 x 6 px"):
        LoadCased()(record)


def test_a_missing_mask_is_unknown_everywhere(tmp_path):
    assert (LoadCased()(save_case(tmp_path))["mask"] == 255).all()


def test_any_mask_value_but_zero_is_target(tmp_path):
    mask = np.zeros((6, 8))
    mask[0, :4] = [1, 7, 128, 255]
    item = LoadCased()(save_case(tmp_path, mask=mask))
    assert drawn(item["mask"])[0] == "TTTTbbbb"
    assert item["mask"].sum() == 4


def encoded(height: int, width: int, *, stride: int = 1) -> dict:
    """An item whose maps hold their own row * COLUMNS + column, and whose image holds its pixel's row and column."""
    grid = torch.arange(-(-height // stride))[:, None] * COLUMNS + torch.arange(-(-width // stride))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return {
        "image": torch.stack([rows, columns, rows]).float(),
        "label": grid[None].float(),
        "mask": grid[None].float(),
        "pseudo_label": grid[None].float(),
    }


def assert_aligned(item: dict, *, stride: int = 1) -> None:
    """Every map says for every cell the row and column that the image says at the cell's own pixels."""
    rows, columns = (item["image"][channel] // stride for channel in (0, 1))
    for key in ("label", "mask", "pseudo_label"):
        grown = item[key][0].repeat_interleave(stride, 0).repeat_interleave(stride, 1)
        torch.testing.assert_close(grown, rows * COLUMNS + columns, msg=key)


@pytest.mark.parametrize("stride", [1, 16])
def test_flips_and_rotations_move_image_and_maps_alike(stride):
    item = encoded(4 * stride, 4 * stride, stride=stride)
    turn = Compose([RandFlipd(KEYS, prob=0.5, spatial_axis=0), RandRotate90d(KEYS, prob=0.75, max_k=3)])
    turn.set_random_state(seed=0)
    corners = set()
    for _ in range(40):
        turned = turn(item)
        assert_aligned(turned, stride=stride)
        corners.add(tuple(turned["label"][0, [0, 0, -1], [0, -1, 0]].tolist()))
    assert len(corners) == 8  # all symmetries of the square occurred


@pytest.mark.parametrize("stride, height, width", [(1, 80, 96), (16, 1000, 1020), (16, 256, 300)])
def test_crops_hold_an_annotated_pixel_and_stay_aligned(stride, height, width):
    item = encoded(height, width, stride=stride)
    annotated = torch.full_like(item["label"], 255, dtype=torch.uint8)
    rows, columns = annotated.shape[1:]
    places = [(0, 0), (rows - 1, columns - 1), (rows // 2, 1)]
    for row, column in places:
        annotated[0, row, column] = 1
    crop = RandCropToPointsd(size=64 if stride == 1 else 128, stride=stride)
    crop.set_random_state(seed=3)
    found = set()
    for _ in range(60):
        out = crop({**item, "label": annotated})
        assert out["image"].shape == (3, crop.size, crop.size)
        assert out["label"].shape == (1, crop.size // stride, crop.size // stride)
        inside = out["pseudo_label"][0][out["label"][0] == 1]
        assert len(inside) >= 1
        found |= set(inside.tolist())
        known = (out["pseudo_label"] >= 0)[0]
        top, left = out["image"][0, 0, 0] // stride, out["image"][1, 0, 0] // stride
        side = crop.size // stride
        grid = (top + torch.arange(side))[:, None] * COLUMNS + left + torch.arange(side)
        torch.testing.assert_close(out["pseudo_label"][0][known], grid[known])
        torch.testing.assert_close(out["mask"][0][known], grid[known])
    assert len(found) == len(places)  # each annotated pixel is met


def test_a_small_image_is_padded_with_unknown_and_its_own_border():
    item = {
        "image": torch.arange(3 * 2 * 3, dtype=torch.uint8).reshape(3, 2, 3),
        "label": torch.ones(1, 2, 3, dtype=torch.uint8),
        "mask": torch.zeros(1, 2, 3, dtype=torch.uint8),
        "pseudo_label": torch.full((1, 2, 3), 0.5),
    }
    out = RandCropToPointsd(size=64)(item)
    for key, inside, outside in [("label", 1, 255), ("mask", 0, 255), ("pseudo_label", 0.5, -1.0)]:
        expected = torch.full((1, 64, 64), outside, dtype=item[key].dtype)
        expected[:, :2, :3] = inside
        torch.testing.assert_close(out[key], expected)
    assert out["image"].shape == (3, 64, 64)
    assert out["image"][0, :3, :5].tolist() == [[0, 1, 2, 2, 2], [3, 4, 5, 5, 5], [3, 4, 5, 5, 5]]
    assert item["label"].shape == (1, 2, 3)  # the cached item is not changed


def test_a_coarse_map_that_reaches_beyond_the_image_is_cropped_with_it():
    item = encoded(100, 100, stride=16)  # 7 cells, 112 px
    item["label"] = item["label"].to(torch.uint8)
    out = RandCropToPointsd(size=112, stride=16)(item)
    assert out["image"].shape == (3, 112, 112)
    torch.testing.assert_close(out["image"][:, :100, :100], item["image"])
    torch.testing.assert_close(out["image"][:, 111, 111], item["image"][:, 99, 99])
    torch.testing.assert_close(out["pseudo_label"], item["pseudo_label"])


def test_an_image_without_annotation_is_cropped_anywhere_inside():
    item = encoded(70, 80)
    item["label"] = torch.full((1, 70, 80), 255, dtype=torch.uint8)
    crop = RandCropToPointsd(size=64)
    crop.set_random_state(seed=0)
    corners = {tuple(crop(item)["image"][:2, 0, 0].int().tolist()) for _ in range(400)}
    assert {row for row, _ in corners} == set(range(7))
    assert {column for _, column in corners} == set(range(17))


def test_size_zero_leaves_the_image_whole():
    item = encoded(70, 80)
    out = RandCropToPointsd(size=0)(item)
    assert out is not item
    assert all(out[key] is item[key] for key in item)


@pytest.mark.parametrize("size, stride", [(-1, 1), (63, 1), (100, 16)])
def test_crop_sizes_that_cannot_be_are_refused(size, stride):
    with pytest.raises(ValueError, match=f"crop_size must be 0 or a multiple of {stride} from 64 px, got {size}"):
        RandCropToPointsd(size=size, stride=stride)


def test_the_pseudo_label_is_joined_by_case(tmp_path):
    store = PseudoLabelStore(tmp_path)
    u = np.arange(6, dtype=np.float32).reshape(2, 3) / 6
    store.publish({"a": u})
    join = JoinPseudoLabeld(store)
    label = torch.zeros(1, 2, 3, dtype=torch.uint8)
    joined = join({"case_id": "a", "label": label})["pseudo_label"]
    assert joined.dtype == torch.float32
    np.testing.assert_array_equal(joined, u[None])
    assert (join({"case_id": "b", "label": label})["pseudo_label"] == -1).all()


def test_a_pseudo_label_of_another_resolution_is_not_used(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": np.ones((4, 6), dtype=np.float32)})
    joined = JoinPseudoLabeld(store)({"case_id": "a", "label": torch.zeros(1, 2, 3)})["pseudo_label"]
    assert joined.tolist() == [[[-1] * 3] * 2]


def test_a_renewal_is_seen_through_a_cached_dataset_while_the_image_is_not_read_again(tmp_path):
    record = save_case(tmp_path, feature("Point", [1.5, 1.5], "target"))
    store = PseudoLabelStore(tmp_path / "store")
    dataset = CacheDataset([record], Compose([LoadCased(), JoinPseudoLabeld(store)]), progress=False)
    Path(record["image"]).unlink()
    assert (dataset[0]["pseudo_label"] == -1).all()
    for value in (0.25, 0.75):
        store.publish({"a": np.full((6, 8), value)})
        assert (dataset[0]["pseudo_label"] == value).all()


def test_jitter_by_nothing_is_the_identity():
    image = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    out = RandColourJitterd(amount=0)({"image": image})["image"]
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


def test_jitter_keeps_grey_grey_and_lies_in_the_unit_interval():
    grey = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)).expand(3, 6, 6)
    jitter = RandColourJitterd(amount=0.8)
    jitter.set_random_state(seed=0)
    for _ in range(20):
        out = jitter({"image": grey})["image"]
        torch.testing.assert_close(out, out[:1].expand(3, 6, 6), atol=1e-5, rtol=0)
        assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_jitter_repeats_under_a_seed_and_varies_from_call_to_call():
    image = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    first, second = RandColourJitterd(), RandColourJitterd()
    first.set_random_state(seed=7)
    second.set_random_state(seed=7)
    one, other = first({"image": image})["image"], second({"image": image})["image"]
    torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert not torch.allclose(first({"image": image})["image"], one)


def test_jitter_by_hand():
    """Pure red 0.5 and black, brightness 1.2, contrast 0.5 about the mean grey, saturation 1.5."""

    class Fixed(RandColourJitterd):
        def __init__(self):
            super().__init__(keys=("image", "second"))
            self.R = type("Drawn", (), {"uniform": staticmethod(lambda *_: (1.2, 0.5, 1.5))})()

    image = torch.zeros(3, 1, 2)
    image[0, 0, 0] = 0.5
    out = Fixed()({"image": image, "second": image})
    mean = 0.299 * 0.6 / 2
    red, other = 0.3 + mean / 2, mean / 2
    grey = 0.299 * red + 0.701 * other
    expected = [grey + 1.5 * (red - grey), max(0.0, grey + 1.5 * (other - grey)), max(0.0, grey + 1.5 * (other - grey))]
    assert out["image"][:, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert out["image"][:, 0, 1].tolist() == pytest.approx([other] * 3, abs=1e-6)
    torch.testing.assert_close(out["second"], out["image"], atol=0, rtol=0)


@pytest.mark.parametrize("amount", [-0.1, 1.0])
def test_jitter_amounts_out_of_range_are_refused(amount):
    with pytest.raises(ValueError, match=re.escape(f"amount must lie in [0, 1), got {amount}")):
        RandColourJitterd(amount=amount)
