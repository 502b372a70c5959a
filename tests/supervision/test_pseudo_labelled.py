"""The variants of the proposed method: where u comes from, and that all else is as in `cvm`."""

import numpy as np
import pytest
import torch

from cvm_monai.supervision.factory import build_supervision
from cvm_monai.variational import average, solve

from .test_supervision import ToyNetwork, blob_features, divergences, mean, pixel_losses, toy_batch

NOTHING = torch.zeros(2, 20, 24)
POINTS = np.array([[9, 10]]), np.array([[1, 1]])
PAPER = {"combination": "mean", "contrast": "one_sided", "centre": "none", "discriminant": 0.0}
"""The evidence as published."""


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def stretch(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def brute_force_contrast(features: np.ndarray, inside: np.ndarray, outside: np.ndarray, eta: float) -> np.ndarray:
    """The mean of N(ReLU(S_p - eta S_q)^2) over all pairs of points, pixel by pixel."""
    height, width = features.shape[1:]

    def correlation(point):
        vector = features[:, point[0], point[1]]
        return np.array([[cosine(vector, features[:, r, c]) for c in range(width)] for r in range(height)])

    pairs = [stretch(np.maximum(correlation(p) - eta * correlation(q), 0) ** 2) for p in inside for q in outside]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("name", ["contrast_map", "direct_variational"])
def test_the_loss_is_that_of_cvm(name):
    network, batch = ToyNetwork(), toy_batch()
    batch["pseudo_label"][0, 0, :3] = -1
    terms = build_supervision(name, constants={name: {"weight": 2.5}}).loss(network, batch)
    assert set(terms) == {"partial_ce", "weighted_kl"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    assert terms["weighted_kl"].item() == pytest.approx(2.5 * mean(divergences(network, batch)), rel=1e-5)


@pytest.mark.parametrize("name", ["cvm", "contrast_map", "direct_variational"])
def test_u_can_be_cut_to_a_mask_that_teaches_by_cross_entropy(name):
    network, batch = ToyNetwork(), toy_batch()
    batch["pseudo_label"][0, 0, :3] = -1
    batch["pseudo_label"][1, 0, 0, 0] = 0.5
    constants = {"weight": 2.5, "pseudo_label_loss": "cross_entropy"}
    terms = build_supervision(name, constants={name: constants}).loss(network, batch)
    u = batch["pseudo_label"]
    batch["mask"] = torch.where(u < 0, 255, torch.where(u > 0.5, 1, 0))
    assert set(terms) == {"partial_ce", "pseudo_ce"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    assert terms["pseudo_ce"].item() == pytest.approx(2.5 * mean(pixel_losses(network, batch, "mask")), rel=1e-5)


@pytest.mark.parametrize("eta", [0.6, 0.2])
def test_contrast_map_is_the_stretched_mean_of_all_contrast_maps(eta):
    features, inside, outside = blob_features()
    method = build_supervision("contrast_map", constants={"contrast_map": PAPER | {"eta": eta}})
    evidence = method.evidence(NOTHING, features, inside, outside)
    assert (evidence.shape, evidence.dtype) == ((1, 20, 24), torch.float32)
    (result,) = method.pseudo_labels([evidence])
    expected = stretch(brute_force_contrast(features.double().numpy(), inside, outside, eta))
    np.testing.assert_allclose(result.u, expected, atol=1e-5)
    assert (result.u.dtype, result.u.min(), result.u.max()) == (np.float32, 0, 1)
    assert (result.iterations, result.reason) == (0, "")


TWO_KINDS = torch.tensor([[[1.0, 1, 0, 0, 0, 0]], [[0.0, 0, 1, 1, 0, 0]], [[0.0, 0, 0, 0, 1, 1]]])
"""Features (3, 1, 6) of two kinds of target and of background, each orthogonal to the others."""
KIND_POINTS = np.array([[0, 0], [0, 2]]), np.array([[0, 4]])


def test_the_largest_contrast_finds_a_target_of_two_kinds_of_tissue_whose_mean_is_half_at_best():
    each = [[1.0, 1, 0, 0, 0, 0], [0.0, 0, 1, 1, 0, 0]]
    for combination, expected in (("mean", [np.mean(each, axis=0)]), ("max", [np.max(each, axis=0)])):
        method = build_supervision("contrast_map", constants={"contrast_map": PAPER | {"combination": combination}})
        np.testing.assert_allclose(method.evidence(NOTHING, TWO_KINDS, *KIND_POINTS)[:, 0], expected, atol=1e-6)
    for combination, expected in (("mean", each), ("max", [np.max(each, axis=0)])):
        method = build_supervision("cvm", constants={"cvm": PAPER | {"combination": combination}})
        np.testing.assert_allclose(method.evidence(NOTHING, TWO_KINDS, *KIND_POINTS)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("combination", ["mean", "max"])
def test_two_sided_contrast_leaves_tissue_that_nobody_clicked_in_the_middle(combination):
    """Target, background and novel tissue of orthogonal features: 1, 0 and, where the paper says 0, one half."""
    tissue = torch.tensor([[[1.0, 1, 0, 0, 0]], [[0.0, 0, 1, 1, 0]], [[0.0, 0, 0, 0, 1]]])
    points = np.array([[0, 0]]), np.array([[0, 2]])
    for contrast, expected in (("one_sided", [1, 1, 0, 0, 0]), ("two_sided", [1, 1, 0, 0, 0.5])):
        constants = {"cvm": PAPER | {"contrast": contrast, "combination": combination}}
        maps = build_supervision("cvm", constants=constants).evidence(NOTHING, tissue, *points)
        np.testing.assert_allclose(maps[:, 0], [expected], atol=1e-6)


@pytest.mark.parametrize("combination", ["mean", "max"])
def test_two_sided_contrast_is_each_side_s_against_the_other(combination):
    features, inside, outside = blob_features()
    constants = {"cvm": PAPER | {"contrast": "two_sided", "combination": combination, "eta": 0.3}}
    maps = build_supervision("cvm", constants=constants).evidence(NOTHING, features, inside, outside)
    values = features.double().numpy()
    target = [brute_force_contrast(values, inside[[i]], outside, 0.3) for i in range(len(inside))]
    other = [brute_force_contrast(values, outside[[i]], inside, 0.3) for i in range(len(outside))]
    if combination == "max":
        target, other = [np.max(target, axis=0)], [np.max(other, axis=0)]
    np.testing.assert_allclose(maps, (1 + np.array(target) - np.mean(other, axis=0)) / 2, atol=1e-5)


@pytest.mark.parametrize("name", ["cvm", "contrast_map"])
@pytest.mark.parametrize(
    "constants, sentence",
    [
        ({"combination": "sum"}, "combination must be one of mean, pooled, max, vote, got 'sum'"),
        ({"contrast": "both"}, "contrast must be one of one_sided, two_sided, got 'both'"),
    ],
)
def test_evidence_that_does_not_exist_is_refused(name, constants, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_supervision(name, constants={name: constants})


def test_contrast_maps_that_tell_nothing_give_no_pseudo_label_but_a_reason():
    method = build_supervision("contrast_map")
    evidence = method.evidence(NOTHING, torch.ones(4, 20, 24), *POINTS)
    good, bad, broken = method.pseudo_labels([torch.rand(1, 4, 5), evidence, torch.full((1, 3, 3), torch.nan)])
    assert good.u.shape == (4, 5)
    assert (bad.u, bad.reason) == (None, "the map is constant, there is nothing to segment")
    assert (broken.u, broken.reason) == (None, "the map holds NaN or infinity, or values too large to square")


def test_direct_variational_solves_the_network_s_stretched_probability():
    """Logits that put every pixel below 0.5: the stretched map has both phases, and the disc comes out of it."""
    features, _, _ = blob_features()
    target = 1.5 * features[0] - 3.0
    logits = torch.stack([torch.zeros_like(target), target])
    settings = {"lam": 1.0, "iterations": 20, "tolerance": 1e-4, "means": "fixed"}
    constants = {"direct_variational": {"solver": "aos", **settings}}
    method = build_supervision("direct_variational", constants=constants)
    evidence = method.evidence(logits, features, *POINTS)
    y = 1 / (1 + np.exp(-target.double().numpy()))
    assert y.max() < 0.5
    assert (evidence.shape, evidence.dtype) == ((1, 20, 24), torch.float32)
    np.testing.assert_allclose(evidence[0], stretch(y), atol=1e-5)
    (result,) = method.pseudo_labels([evidence])
    expected = average(solve(stretch(y)[None], method="aos", **settings))
    np.testing.assert_allclose(result.u, expected, atol=1e-4)
    assert result.u[9, 10] > 0.8 > 0.2 > result.u[1, 1]
    assert result.iterations > 0


def test_an_output_that_separates_nothing_gives_no_pseudo_label_but_a_reason():
    method = build_supervision("direct_variational", constants={"direct_variational": {"lam": 0.01}})
    flat = method.evidence(torch.zeros(2, 20, 24), NOTHING, *POINTS)
    speck = torch.zeros(2, 20, 24)
    speck[1, 9, 10] = 5.0  # one pixel, which smoothing removes
    results = method.pseudo_labels([flat, method.evidence(speck, NOTHING, *POINTS)])
    assert [result.u for result in results] == [None, None]
    assert [result.reason for result in results] == [
        "the map is constant, there is nothing to segment",
        "one phase is empty",
    ]


@pytest.mark.parametrize(
    "name, constants, sentence",
    [
        ("cvm", {"eta": 1.5}, r"eta must lie in \[0, 1\], got 1.5"),
        ("cvm", {"lam": 0}, "lam must be a finite number greater than 0, got 0"),
        ("cvm", {"weight": -1}, "weight must be a finite number of at least 0, got -1"),
        (
            "cvm",
            {"pseudo_label_loss": "dice"},
            r"pseudo_label_loss must be one of \('weighted_kl', 'cross_entropy'\), got 'dice'",
        ),
        ("contrast_map", {"eta": -0.1}, r"eta must lie in \[0, 1\], got -0.1"),
        ("contrast_map", {"weight": float("nan")}, "weight must be a finite number of at least 0, got nan"),
        ("direct_variational", {"solver": "chan"}, r"method must be one of \('aos', 'primal_dual'\), got 'chan'"),
        ("direct_variational", {"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ("direct_variational", {"tolerance": -1}, "tolerance must be a finite number of at least 0, got -1"),
        ("direct_variational", {"means": "both"}, r"means must be one of \('alternating', 'fixed'\), got 'both'"),
        ("direct_variational", {"weight": "1"}, "weight must be a finite number of at least 0, got '1'"),
        ("crf", {"weight": -1}, "weight must be a finite number of at least 0, got -1"),
        ("crf", {"grid": 1}, "grid must be a whole number of at least 2, got 1"),
        ("crf", {"sigma_xy": 0}, "sigma_xy must be a finite number greater than 0, got 0"),
        ("crf", {"sigma_rgb": 0}, "sigma_rgb must be a finite number greater than 0, got 0"),
        ("crf", {"image_mean": [0.5]}, r"image_mean must hold one number for each of R, G and B, got \[0.5\]"),
        ("crf", {"image_std": [1, 1]}, r"image_std must hold one number for each of R, G and B, got \[1, 1\]"),
        ("peng", {"pseudo_weight": -1}, "pseudo_weight must be a finite number of at least 0, got -1"),
        ("peng", {"fisher_weight": None}, "fisher_weight must be a finite number of at least 0, got None"),
        ("peng", {"margin": 3}, r"margin must lie in \[0, 2\], got 3"),
        ("peng", {"eps": 0}, "eps must be a finite number greater than 0, got 0"),
    ],
)
def test_a_constant_out_of_its_range_is_named(name, constants, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        build_supervision(name, constants={name: constants})
