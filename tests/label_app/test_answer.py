"""Clicks and networks on images, without any server."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.data.stain import fit_target, normalise_stain
from cvm_monai.interactive import ClickModel, segment_clicks
from cvm_monai.label_app.answer import Answerer
from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.label_app.automatic import entropy
from cvm_monai.label_app.current import Current, CurrentNetwork, recorded_knobs


class Colours(torch.nn.Module):
    """Its features are the colours; it is sure of red."""

    def features(self, x):
        red = 20 * (x[:, :1] - x[:, 2:])
        return torch.cat([-red, red], dim=1), x + 3

    def forward(self, x):
        return self.features(x)[0]


@pytest.fixture
def answerer(tmp_path, monkeypatch):
    found = Answerer(read_settings({}, studies=tmp_path), CurrentNetwork(tmp_path / "work"))
    network = Current(Colours().eval(), tmp_path / "run", recorded_knobs(None), "colours")
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
    from pathlib import Path

    Path(file).unlink()
    return found


def test_clicks_give_the_square_and_keep_the_features(answerer, image):
    file, facts = answerer(CLICKS, image, method="points")
    assert overlap(read(file), square()) > 0.98
    assert facts["features_cached"] is False
    assert facts["regions"] == 1
    _, facts = answerer(CLICKS | {"foreground": [[30, 30], [40, 20]]}, image, method="points", write=False)
    assert facts["features_cached"] is True


def test_u_is_made_by_the_constants_of_the_network_s_training_but_for_what_the_request_names(
    answerer, image, monkeypatch, tmp_path
):
    seen = []

    def watched(features, inside, outside, *, model, parts, probability):
        seen.append((model, parts, probability))
        return segment_clicks(features, inside, outside, model=model, parts=parts, probability=probability)

    own = {"eta": 0.3, "lam": 0.7, "solver": "aos", "iterations": 20, "contrast": "one_sided", "centre": "both"}
    knobs = recorded_knobs(None) | own | {"combination": "max", "discriminant": 0.25}
    monkeypatch.setattr("cvm_monai.label_app.interactive.segment_clicks", watched)
    monkeypatch.setattr(
        answerer.current, "get", lambda: Current(Colours().eval(), tmp_path / "run", knobs, "constants")
    )
    answerer(CLICKS | {"lam": 0.4}, image, method="points", write=False)
    ((model, parts, probability),) = seen
    assert model == ClickModel(**{**own, "lam": 0.4}, combination="max", discriminant=0.25)
    assert parts[0] == 3  # the network's own features beside the pretrained ones
    assert probability.shape == (64, 80)


def test_features_are_forgotten_when_the_image_changes(answerer, image):
    answerer(CLICKS, image, method="points", write=False)
    Image.fromarray(np.full((64, 80, 3), 7, np.uint8)).save(image)
    _, facts = answerer(CLICKS, image, method="points", write=False)
    assert facts["features_cached"] is False


def test_the_network_gives_the_square(answerer, image):
    file, facts = answerer({}, image, method="network")
    np.testing.assert_array_equal(read(file), square())
    assert facts["label_names"] == {"target (predicted)": 1}
    assert facts["region"] == [0, 0, 80, 64]


def test_a_region_gives_its_own_label_image(answerer, image):
    for method in ("points", "network"):
        file, facts = answerer(CLICKS | {"location": [20, 8], "size": [60, 40]}, image, method=method)
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
def test_a_box_or_clicks_on_the_target_alone_give_the_square(answerer, image, request_, assumed):
    """As CVAT asks; the mask has the size of the image."""
    file, facts = answerer(request_, image, method="points")
    assert overlap(read(file), square()) > 0.98
    assert facts.get("clicks_assumed") == assumed


def test_a_box_bounds_the_network_and_its_mask_is_of_the_whole_image(answerer, image):
    file, _ = answerer({"roi": [20, 8, 80, 48]}, image, method="network")
    np.testing.assert_array_equal(read(file), square() * (np.arange(80) >= 20))


def test_json_answers_hold_contours(answerer, image):
    _, facts = answerer({"output": "json"}, image, method="network", write=False)
    (element,) = facts["annotations"][0]["annotation"]["elements"]
    assert element["label"] == "target (predicted)"
    assert "annotations" not in answerer({}, image, method="network", write=False)[1]


def test_the_same_is_not_said_by_an_untrained_network(answerer, image, monkeypatch, tmp_path):
    network = Current(Colours().eval(), None, recorded_knobs(None), "random")
    monkeypatch.setattr(answerer.current, "get", lambda: network)
    with pytest.raises(ValueError, match="there is no trained network yet"):
        answerer({}, image, method="network")
    assert answerer(CLICKS, image, method="points", write=False)[1]["network"]["trained"] is False


@pytest.mark.parametrize(
    "value", [5, "x", True, [[]], [None], [[1], 2], {"a": 1}, [["x", "y"]], [10**400, 1], 10**400, 1e300]
)
@pytest.mark.parametrize("name", ["foreground", "location", "size", "roi", "mpp", "eta", "min_poly_area", "output"])
def test_a_value_of_another_kind_is_an_answer_or_one_sentence(answerer, image, name, value):
    with suppress(ValueError):
        answerer(CLICKS | {name: value}, image, method="points", write=False)


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
def test_a_request_that_means_nothing_is_refused(answerer, image, change, message):
    with pytest.raises(ValueError, match=message):
        answerer(CLICKS | change, image, method="points", write=False)


def test_a_failed_answer_leaves_no_file(answerer, image, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    monkeypatch.setattr("cvm_monai.label_app.answer.write_output", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        answerer(CLICKS | {"polygons": False}, image, method="points")
    assert list((tmp_path / "uploads").iterdir()) == []


def test_entropy_in_bits():
    probabilities = np.array([[[1.0, 0.5, 0.25]], [[0.0, 0.5, 0.75]]])
    np.testing.assert_allclose(entropy(probabilities), [[0.0, 1.0, 0.811278]], atol=1e-6)


def test_settings_are_checked(tmp_path):
    settings = read_settings({"classes": "Tumor=target,Stroma=background", "image_mpp": "0.5"}, studies=tmp_path)
    assert settings.classes["target (predicted)"] == 1
    assert settings.classes["Tumor"] == "target"
    assert settings.work == (tmp_path / "cvm_monai").resolve()
    for conf, message in (
        ({"modle": "x"}, "--conf modle is unknown"),
        ({"image_mpp": "x"}, "image_mpp must be micrometres"),
        ({"follow_links": "1"}, "follow_links must be true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            read_settings(conf, studies=tmp_path)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no trained network at"):
        CurrentNetwork(tmp_path).use(tmp_path / "nowhere")


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
    current = CurrentNetwork(tmp_path / "work")
    monkeypatch.setattr(current, "output_dir", lambda: None)
    found = Answerer(read_settings({}, studies=tmp_path), current)
    clicks = {"foreground": [[120, 120], [60, 90]], "background": [[280, 40], [20, 230]]}
    file, facts = found(clicks, tmp_path / "image.png", method="points")
    assert overlap(read(file), mask) > 0.85
    assert facts["network"] == {"trained": False, "name": kind, "training": None}


def missing(name):
    raise ValueError(f"the weights of {name} are not installed")


@pytest.mark.parametrize("method", ["network", "points"])
def test_the_stains_of_the_training_are_given_to_the_network(answerer, image, monkeypatch, method):
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
    network = Current(Watching().eval(), image.parent / "run", knobs, "stained", target)
    monkeypatch.setattr(answerer.current, "get", lambda: network)
    answerer(CLICKS, image, method=method, write=False)
    wanted = torch.from_numpy(normalise_stain(pixels, target) / 255.0).permute(2, 0, 1)
    np.testing.assert_allclose(seen[0][0], wanted, atol=1e-6)
