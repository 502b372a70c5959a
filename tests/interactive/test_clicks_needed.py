"""The simulated annotator of the benchmark: where it clicks, and what it counts."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cvm_monai.interactive import ClickModel
from cvm_monai.interactive.current import ActiveModel, recorded_knobs
from cvm_monai.networks.centred_probe import CentredProbe

BENCHMARK = "clicks_needed"
INSIDE, OUTSIDE = np.array([[30, 30]]), np.array([[8, 70]])


class Colours(torch.nn.Module):
    """Its features are the colours; it calls everything target."""

    def features(self, x):
        return torch.stack([x[:, 0] * 0, x[:, 0] * 0 + 3], dim=1), x + 3


@pytest.fixture
def folder(tmp_path):
    """images/ and masks/: blue and some noise, with a red square at rows 16 to 47 and columns 8 to 55 of 64 x 80."""
    noise = np.random.default_rng(0).integers(0, 30, (64, 80, 3))
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[..., 2] = 200
    pixels[16:48, 8:56] = (200, 0, 0)
    for name, found in (("images", pixels + noise), ("masks", square() * 255)):
        (tmp_path / name).mkdir()
        Image.fromarray(found.astype(np.uint8)).save(tmp_path / name / "case.png")
    return tmp_path


def square():
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[16:48, 8:56] = 1
    return mask


def overlap(u):
    """Dice with the square."""
    return 2 * float(((u > 0.5) & (square() > 0)).sum()) / float((u > 0.5).sum() + square().sum())


def test_the_middle_is_the_pixel_of_the_largest_part_farthest_from_its_border(benchmark):
    region = np.zeros((9, 12), dtype=bool)
    region[1:6, 1:6] = True
    region[7:9, 8:12] = True
    assert benchmark.middle(region) == (3, 3)


def test_clicks_go_where_the_error_is_largest_until_nothing_is_wrong(benchmark):
    """The answer knows squares of 4 around each click; the target is two of them."""
    mask = np.zeros((12, 12), dtype=bool)
    mask[0:4, 0:4] = mask[8:12, 8:12] = True
    asked = []

    def answer(inside, outside):
        asked.append((len(inside), len(outside)))
        found = np.zeros((12, 12))
        for row, column in inside:
            found[4 * (row // 4) : 4 * (row // 4) + 4, 4 * (column // 4) : 4 * (column // 4) + 4] = 1
        return found

    scores = benchmark.annotate(mask, answer, most=6)
    assert asked == [(1, 1), (2, 1)]
    assert scores == pytest.approx([2 * 16 / (16 + 32), 1, 1, 1, 1])


def test_the_clicks_needed_count_images_that_never_reach_a_level_as_the_most(benchmark):
    found = benchmark.measure(np.array([[0.7, 0.82, 0.86], [0.5, 0.5, 0.5]]), most=4)
    assert found.tolist() == [[0.7, 3, 4, 4], [0.5, 4, 4, 4]]


def test_the_tables_have_means_with_intervals_over_images_and_differences_from_the_first_method(benchmark):
    """Of two images a resample holds both, or one of them alone: each with a probability of a quarter."""
    curves = {"u": [[0.7, 0.82, 0.86], [0.5, 0.5, 0.5]], "other": [[0.6, 0.8, 0.8], [0.5, 0.5, 0.5]]}
    assert benchmark.tables(curves, most=4) == [
        "| answer | Dice after 2 | NoC@80 | NoC@85 | NoC@90 |",
        "|---|---|---|---|---|",
        "| u | 0.600 (0.500 to 0.700) | 3.5 (3.0 to 4.0), 50 % | 4.0 (4.0 to 4.0), 50 % | 4.0 (4.0 to 4.0), 0 % |",
        "| other | 0.550 (0.500 to 0.600) | 3.5 (3.0 to 4.0), 50 % | 4.0 (4.0 to 4.0), 0 % | 4.0 (4.0 to 4.0), 0 % |",
        "",
        "| u minus | Dice after 2 | NoC@80 | NoC@85 | NoC@90 |",
        "|---|---|---|---|---|",
        "| other | +0.050 (+0.000 to +0.100) | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) |",
    ]


def test_one_image_has_no_interval(benchmark):
    assert benchmark.tables({"u": [[0.9]]}, most=2)[2] == "| u | 0.900 | 2.0, 100 % | 2.0, 100 % | 2.0, 100 % |"


def test_grabcut_learns_the_colours_of_two_clicks(benchmark, folder):
    """Its first guess is the nearer click, half of the picture; the colours say that the square is less."""
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'cvm-monai[benchmarks]'")
    image = np.array(Image.open(folder / "images" / "case.png"))
    assert overlap(benchmark._grabcut(image, seed=0)(INSIDE, OUTSIDE)) > 0.97
    nearer = np.hypot(*(np.indices((64, 80)) - 30)) < np.hypot(
        np.indices((64, 80))[0] - 8, np.indices((64, 80))[1] - 70
    )
    assert overlap(nearer) < 0.8


def test_a_click_in_the_disk_of_the_other_class_keeps_its_own(benchmark, folder):
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'cvm-monai[benchmarks]'")
    image = np.array(Image.open(folder / "images" / "case.png"))
    u = benchmark._grabcut(image, seed=0)(np.array([[32, 40]]), np.array([[32, 48]]))
    assert u[34, 42] > 0.5 > u[34, 50]


@pytest.mark.parametrize("installed", [True, False])
def test_without_opencv_one_sentence_says_that_grabcut_is_left_out(benchmark, folder, installed, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: installed)
    monkeypatch.setattr(benchmark, "_grabcut", lambda image, seed: lambda inside, outside: np.zeros(image.shape[:2]))
    monkeypatch.setattr(sys, "argv", ["clicks_needed.py", str(folder), "--clicks", "2"])
    assert benchmark.main() == 0
    out, err = capsys.readouterr()
    assert ("| GrabCut | 0.000 |" in out) is installed
    assert err == ("" if installed else f"{benchmark.NO_OPENCV}\n")
    assert "| random walker |" in out


def test_a_folder_without_a_training_is_refused_in_one_sentence(benchmark, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["clicks_needed.py", str(folder), "--model", str(folder / "nothing")])
    assert benchmark.main() == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line != benchmark.NO_OPENCV]
    assert str(folder / "nothing") in line


def test_a_trained_network_answers_by_its_own_features_and_corrected_with_the_settings_of_its_training(
    benchmark, folder, monkeypatch
):
    """The network calls everything target; a click outside corrects it, and its features are the colours."""
    asked, own = [], {"eta": 0.3, "lam": 0.7}
    real = benchmark.segment_clicks
    monkeypatch.setattr(
        benchmark,
        "segment_clicks",
        lambda features, *rest, **more: asked.append((len(features), more["model"])) or real(features, *rest, **more),
    )
    current = ActiveModel(Colours().eval(), folder, recorded_knobs(None) | own, "colours")
    found = benchmark.Trained(current).answers(folder / "images" / "case.png")
    assert list(found) == ["network's features + CVM", "trained network + CVM"]
    assert overlap(found["network's features + CVM"](INSIDE, OUTSIDE)) > 0.97
    ((channels, model),) = asked
    assert channels == 3
    assert (model.eta, model.lam) == (0.3, 0.7)
    assert model != ClickModel()
    u = found["trained network + CVM"](INSIDE, OUTSIDE)
    assert u[30, 30] > 0.5 > u[8, 70]
    assert overlap(u) > 0.55 > 0.5 > overlap(np.ones((64, 80)))


def test_a_linear_layer_on_pretrained_features_has_none_of_its_own(benchmark, folder):
    network = CentredProbe(extractor_path="imagenet").eval()
    current = ActiveModel(network, folder, recorded_knobs(None), "probe")
    assert list(benchmark.Trained(current).answers(folder / "images" / "case.png")) == ["trained network + CVM"]


def test_places_are_chosen_by_the_mask_by_u_or_by_chance(benchmark):
    mask = np.zeros((9, 9), dtype=bool)
    mask[:, :5] = True
    u = np.where(mask, 0.9, 0.1)
    u[3:6, 6:9] = 0.8
    u[0:5, 0:3] = 0.55
    rng = np.random.default_rng(0)
    assert benchmark.at_largest_error(mask, u, rng) == (4, 7)
    assert benchmark.at_where_next(mask, u, rng) == (1, 1)
    assert benchmark.at_largest_error(mask, mask * 1.0, rng) is None
    row, column = benchmark.at_where_next(mask, mask * 1.0, rng)
    assert 0 <= row < 9
    assert 0 <= column < 9
    curve = benchmark.annotate(mask, lambda *_: u, most=5, place=benchmark.at_random)
    assert len(curve) == 4
