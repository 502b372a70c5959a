"""Clicks and networks on images, without any server."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.annotations import regions_from_rows
from cvm_monai.data.stain import fit_target, normalise_stain
from cvm_monai.interactive import ClickModel, segment_clicks
from cvm_monai.interactive.current import ActiveModel, ModelLoader, recorded_knobs
from cvm_monai.label_app.answer import Segmenter
from cvm_monai.label_app.app_settings import read_settings


class Colours(torch.nn.Module):
    """Its features are the colours; it is sure of red."""

    def features(self, x):
        red = 20 * (x[:, :1] - x[:, 2:])
        return torch.cat([-red, red], dim=1), x + 3

    def forward(self, x):
        return self.features(x)[0]


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    found = Segmenter(read_settings({}, studies=tmp_path), ModelLoader(tmp_path / "work"))
    network = ActiveModel(Colours().eval(), tmp_path / "run", recorded_knobs(None), "colours")
    monkeypatch.setattr(found.current, "get", lambda: network)
    return found


@pytest.fixture
def image(tmp_path):
    """Blue, with a red square at rows 16 to 47 and columns 8 to 55 of 64 x 80."""
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[..., 2] = 200
    pixels[16:48, 8:56] = (200, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def square(shape=(64, 80)):
    mask = np.zeros(shape, np.uint8)
    mask[16:48, 8:56] = 1
    return mask


def overlap(found, expected):
    """Dice."""
    return 2 * float((found & expected).sum()) / float(found.sum() + expected.sum())


CLICKS = {"foreground": [[30, 30]], "background": [[70, 10]]}


def read(file):
    found = np.array(Image.open(file))
    Path(file).unlink()
    return found


def test_clicks_give_the_square_and_keep_the_features(segmenter, image):
    file, facts = segmenter(CLICKS, image, method="points")
    assert overlap(read(file), square()) > 0.98
    assert facts["features_cached"] is False
    assert facts["regions"] == 1
    _, facts = segmenter(CLICKS | {"foreground": [[30, 30], [40, 20]]}, image, method="points", write=False)
    assert facts["features_cached"] is True


def test_u_is_made_by_the_constants_of_the_network_s_training_but_for_what_the_request_names(
    segmenter, image, monkeypatch, tmp_path
):
    seen = []

    def watched(features, inside, outside, *, model, parts, probability, spacing):
        seen.append((model, parts, probability))
        return segment_clicks(
            features, inside, outside, model=model, parts=parts, probability=probability, spacing=spacing
        )

    own = {"eta": 0.3, "lam": 0.7, "solver": "aos", "iterations": 20, "contrast": "one_sided", "centre": "both"}
    knobs = recorded_knobs(None) | own | {"combination": "max", "discriminant": 0.25}
    monkeypatch.setattr("cvm_monai.interactive.segmenter.segment_clicks", watched)
    monkeypatch.setattr(
        segmenter.current, "get", lambda: ActiveModel(Colours().eval(), tmp_path / "run", knobs, "constants")
    )
    segmenter(CLICKS | {"lam": 0.4}, image, method="points", write=False)
    ((model, parts, probability),) = seen
    assert model == ClickModel(**{**own, "lam": 0.4}, combination="max", discriminant=0.25)
    assert parts[0] == 3  # the network's own features beside the pretrained ones
    assert probability.shape == (64, 80)


def test_features_are_forgotten_when_the_image_changes(segmenter, image):
    segmenter(CLICKS, image, method="points", write=False)
    Image.fromarray(np.full((64, 80, 3), 7, np.uint8)).save(image)
    _, facts = segmenter(CLICKS, image, method="points", write=False)
    assert facts["features_cached"] is False


def test_the_network_gives_the_square(segmenter, image):
    file, facts = segmenter({}, image, method="network")
    np.testing.assert_array_equal(read(file), square())
    assert facts["label_names"] == {"target (predicted)": 1}
    assert facts["region"] == [0, 0, 80, 64]


def test_a_region_gives_its_own_label_image(segmenter, image):
    for method in ("points", "network"):
        file, facts = segmenter(CLICKS | {"location": [20, 8], "size": [60, 40]}, image, method=method)
        assert overlap(read(file), square()[8:48, 20:80]) > 0.98
        assert facts["region"] == [20, 8, 60, 40]


@pytest.mark.parametrize(
    "request_, assumed",
    [
        (CLICKS | {"roi": [0, 8, 75, 60]}, None),
        ({"foreground": [[30, 30]], "background": [], "roi": [0, 8, 75, 60]}, "background"),
        ({"foreground": [], "background": [], "roi": [0, 8, 75, 60]}, "foreground"),
        ({"foreground": [[30, 30]]}, "background"),
    ],
)
def test_a_box_or_clicks_on_the_target_alone_give_the_square(segmenter, image, request_, assumed):
    """As CVAT asks; the mask has the size of the image."""
    file, facts = segmenter(request_, image, method="points")
    assert overlap(read(file), square()) > 0.98
    assert facts.get("clicks_assumed") == assumed


def test_a_box_bounds_the_network_and_its_mask_is_of_the_whole_image(segmenter, image):
    file, _ = segmenter({"roi": [20, 8, 80, 48]}, image, method="network")
    np.testing.assert_array_equal(read(file), square() * (np.arange(80) >= 20))


def test_json_answers_hold_contours(segmenter, image):
    _, facts = segmenter({"output": "json"}, image, method="network", write=False)
    (element,) = facts["annotations"][0]["annotation"]["elements"]
    assert element["label"] == "target (predicted)"
    assert "annotations" not in segmenter({}, image, method="network", write=False)[1]


def test_the_same_is_not_said_by_an_untrained_network(segmenter, image, monkeypatch, tmp_path):
    network = ActiveModel(Colours().eval(), None, recorded_knobs(None), "random")
    monkeypatch.setattr(segmenter.current, "get", lambda: network)
    with pytest.raises(ValueError, match="there is no trained network yet"):
        segmenter({}, image, method="network")
    assert segmenter(CLICKS, image, method="points", write=False)[1]["network"]["trained"] is False


ANOTHER_KIND = ["x", True, [[]], [None], [[1], 2], {"a": 1}, [["x", "y"]], [10**400, 1], 10**400]


@pytest.mark.parametrize(
    "name, values, beginning",
    [
        (
            "foreground",
            [*ANOTHER_KIND, 5, 1e300],
            "foreground must be (a list of|made of pairs).* got ",
        ),
        ("location", [*ANOTHER_KIND, 5, 1e300], "location must be made of pairs of numbers .x, y., got "),
        ("size", [*ANOTHER_KIND, 5, 1e300], "size must be made of pairs of numbers .x, y., got "),
        ("roi", [*ANOTHER_KIND, 5, 1e300], "roi must be .left, top, right, bottom., got "),
        ("mpp", [*ANOTHER_KIND, 1e300], "mpp must be a (positive )?number"),
        ("eta", [*ANOTHER_KIND, 5, 1e300], "eta must be a number in .0, 1., got "),
        ("min_poly_area", ANOTHER_KIND, "min_poly_area must be a number, got "),
        ("min_poly_area", [-5], "min_poly_area must be a number from 0, got -5"),
        ("min_area", [-5], "min_area must be a number from 0, got -5"),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(segmenter, image, name, values, beginning):
    for value in values:
        with pytest.raises(ValueError, match=f"^{beginning}") as caught:
            segmenter(CLICKS | {name: value}, image, method="points", write=False)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"mpp": 5}, {"min_poly_area": 5}, {"min_poly_area": 1e300}, {"output": [None]}])
def test_large_numbers_and_an_output_that_is_not_written_are_no_mistake(segmenter, image, change):
    assert segmenter(CLICKS | change, image, method="points", write=False)[1]["network"]["trained"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eta": "x"}, "eta must be a number"),
        ({"eta": 2}, r"eta must be a number in \[0, 1\]"),
        ({"iterations": 0}, "iterations must be a whole number"),
        ({"mpp": -1}, "mpp must be a positive number"),
        ({"result_extension": ".exe"}, "result_extension must be one of"),
    ],
)
def test_a_request_that_means_nothing_is_refused(segmenter, image, change, message):
    with pytest.raises(ValueError, match=message):
        segmenter(CLICKS | change, image, method="points", write=False)


def test_a_failed_answer_leaves_no_file(segmenter, image, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    monkeypatch.setattr("cvm_monai.label_app.answer.write_output", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        segmenter(CLICKS | {"polygons": False}, image, method="points")
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("kind", ["imagenet", "density"])
def test_before_any_training_pretrained_features_answer_or_density_where_they_are_missing(tmp_path, monkeypatch, kind):
    """Two stains on 256 x 320 px of grain; the answer says which features it used."""
    if kind == "density":
        monkeypatch.setattr("cvm_monai.interactive.cold_start.imagenet_file", missing)
    mask = np.kron(square(), np.ones((4, 4), np.uint8))
    grain = np.random.default_rng(0).integers(-12, 13, (*mask.shape, 3))
    Image.fromarray((np.where(mask[..., None], (120, 60, 140), (220, 150, 190)) + grain).astype(np.uint8)).save(
        tmp_path / "image.png"
    )
    current = ModelLoader(tmp_path / "work")
    monkeypatch.setattr(current, "output_dir", lambda: None)
    found = Segmenter(read_settings({}, studies=tmp_path), current)
    clicks = {"foreground": [[120, 120], [60, 90]], "background": [[280, 40], [20, 230]]}
    file, facts = found(clicks, tmp_path / "image.png", method="points")
    assert overlap(read(file), mask) > 0.85
    assert facts["network"] == {"trained": False, "name": kind, "training": None}


def missing(name):
    raise ValueError(f"the weights of {name} are not installed")


@pytest.mark.parametrize("method", ["network", "points"])
def test_the_stains_of_the_training_are_given_to_the_network(segmenter, image, monkeypatch, method):
    rng = np.random.default_rng(0)
    pixels = np.where(square()[..., None], (150, 40, 120), (200, 150, 190)) + rng.integers(-9, 10, (64, 80, 3))
    pixels = pixels.astype(np.uint8)
    Image.fromarray(pixels).save(image)
    target = fit_target([255 - pixels // 2], method="reinhard")
    seen = []

    class Watching(Colours):
        def features(self, x):
            seen.append(x)
            return super().features(x)

    knobs = recorded_knobs(None) | {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    network = ActiveModel(Watching().eval(), image.parent / "run", knobs, "stained", target)
    monkeypatch.setattr(segmenter.current, "get", lambda: network)
    segmenter(CLICKS, image, method=method, write=False)
    wanted = torch.from_numpy(normalise_stain(pixels, target) / 255.0).permute(2, 0, 1)
    np.testing.assert_allclose(seen[0][0], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "asked, times",
    [
        ({}, 1),
        ({"result_extension": ".geojson", "output": "json"}, 1),
        ({"result_extension": ".xml", "output": "json"}, 1),
        ({"result_extension": ".json", "polygons": False}, 1),
        ({"polygons": False}, 0),
    ],
)
def test_an_answer_follows_the_outlines_once_however_many_forms_it_has(segmenter, image, monkeypatch, asked, times):
    """A label image alone needs none."""
    calls = []

    def counted(strips, **options):
        calls.append(options)
        return regions_from_rows(strips, **options)

    monkeypatch.setattr("cvm_monai.interactive.outlines.regions_from_rows", counted)
    file, facts = segmenter(CLICKS | asked, image, method="points")
    Path(file).unlink()
    assert len(calls) == times
    assert facts.get("regions") == (1 if asked.get("polygons", True) else None)
