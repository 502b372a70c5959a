"""Correlation and contrast maps against their formulae written out."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import contrast_maps, correlation_maps, normalise

# two channels, a 1 x 4 map: along x, along y, diagonal, zero
FEATURES = np.array([[[2.0, 0.0, 1.0, 0.0]], [[0.0, 3.0, 1.0, 0.0]]])
HALF = np.sqrt(0.5)


def test_correlation_is_the_cosine_and_zero_for_a_zero_vector():
    maps = correlation_maps(FEATURES, np.array([[0, 0], [0, 2], [0, 3]]))
    expected = [[[1, 0, HALF, 0]], [[HALF, HALF, 1, 0]], [[0, 0, 0, 0]]]
    np.testing.assert_allclose(maps, expected, atol=1e-15)


def test_contrast_of_one_pair_is_written_out():
    maps = contrast_maps(FEATURES, np.array([[0, 0]]), np.array([[0, 1]]), eta=0.6)
    raw = np.array([1, 0, (HALF - 0.6 * HALF) ** 2, 0])  # relu(S_p - eta S_q)^2
    np.testing.assert_allclose(maps[0, 0], raw, atol=1e-15)


def test_contrast_is_the_mean_over_out_of_target_points_with_eta_applied_once_to_each_pair():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 6, 7))
    inside, outside = np.array([[0, 0], [5, 6], [2, 2]]), np.array([[1, 1], [3, 3]])
    eta = 0.3
    unit = features / np.linalg.norm(features, axis=0)
    expected = np.zeros((3, 6, 7))
    for i, (row, column) in enumerate(inside):
        for other_row, other_column in outside:
            s_p = np.einsum("c,chw->hw", unit[:, row, column], unit)
            s_q = np.einsum("c,chw->hw", unit[:, other_row, other_column], unit)
            raw = np.maximum(s_p - eta * s_q, 0) ** 2
            expected[i] += (raw - raw.min()) / (raw.max() - raw.min()) / 2
    np.testing.assert_allclose(contrast_maps(features, inside, outside, eta=eta), expected, atol=1e-14)


def test_the_inputs_are_not_changed():
    features, points = FEATURES.copy(), np.array([[0, 0]])
    contrast_maps(features, points, np.array([[0, 1]]))
    np.testing.assert_array_equal(features, FEATURES)


def test_a_constant_map_normalises_to_zeros():
    np.testing.assert_array_equal(normalise(np.full((2, 3, 3), 0.7)), np.zeros((2, 3, 3)))


def test_identical_features_everywhere_give_zeros_and_no_nan():
    maps = contrast_maps(np.ones((4, 3, 5)), np.array([[0, 0]]), np.array([[2, 4]]))
    np.testing.assert_array_equal(maps, np.zeros((1, 3, 5)))


def test_torch_equals_numpy():
    features = np.random.default_rng(1).normal(size=(8, 9, 10))
    inside, outside = np.array([[0, 0], [8, 9]]), np.array([[4, 4], [1, 7]])
    expected = contrast_maps(features, inside, outside)
    found = contrast_maps(torch.from_numpy(features), inside, outside)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eta": 1.5}, r"eta must lie in \[0, 1\], got 1.5"),
        ({"in_points": np.empty((0, 2), dtype=int)}, r"in_points must be a non-empty \(N, 2\) array"),
        ({"out_points": np.array([[0, 4]])}, r"out_points lie outside the 1x4 map: \[\[0, 4\]\]"),
        ({"in_points": np.array([[-1, 0]])}, r"in_points lie outside the 1x4 map: \[\[-1, 0\]\]"),
        ({"in_points": np.array([[0.5, 0.5]])}, "in_points must hold integers"),
        ({"features": np.ones((3, 3))}, r"features must have shape \(C, H, W\), got \(3, 3\)"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"features": FEATURES, "in_points": np.array([[0, 0]]), "out_points": np.array([[0, 1]])} | change
    eta = arguments.pop("eta", 0.6)
    with pytest.raises(ValueError, match=message):
        contrast_maps(**arguments, eta=eta)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_features_that_are_not_finite_are_refused(kind):
    features = np.ones((2, 3, 3))
    features[0, 1, 1], features[1, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="features must be finite, got 2 NaN or infinite values"):
        correlation_maps(kind(features), np.array([[0, 0]]))
