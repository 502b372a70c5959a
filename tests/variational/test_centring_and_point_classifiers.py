"""What is taken off the features before they are compared, and two classifiers learnt from an image's own points."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import centred, correlation_maps, linear_discriminant, nearest_point_vote

FEATURES = np.array([[[1.0, 3.0]], [[2.0, 6.0]]])  # (2, 1, 2): the vectors (1, 2) and (3, 6), whose mean is (2, 4)
MEAN = np.array([0.0, 2.0])


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    "centre, expected",
    [
        ("none", [[1, 3], [2, 6]]),
        ("image", [[-1, 1], [-2, 2]]),
        ("dataset", [[1, 3], [0, 4]]),
        ("both", [[0, 2], [-1, 3]]),  # (2, 4) and (0, 2) have the middle (1, 3)
    ],
)
def test_the_chosen_mean_is_taken_off_each_vector(convert, centre, expected):
    found = centred(convert(FEATURES), centre, mean=convert(MEAN))
    np.testing.assert_allclose(np.asarray(found)[:, 0], expected)


def test_each_part_of_joined_features_is_centred_and_scaled_to_length_one():
    features = np.array([[[4.0, 0.0]], [[3.0, 0.0]], [[100.0, -100.0]]])  # parts of 2 channels and of 1
    found = centred(features, "image", parts=(2, 1))
    np.testing.assert_allclose(found[:, 0], [[0.8, -0.8], [0.6, -0.6], [1, -1]])
    np.testing.assert_allclose(centred(np.zeros((3, 1, 2)), "image", parts=(2, 1)), 0)


def test_centring_tells_apart_what_raw_cosines_do_not():
    """All vectors point the same way but for a tenth: raw cosines are above 0.99, centred ones of opposite sign."""
    features = np.ones((4, 1, 2))
    features[0, 0, 0] += 0.1
    points = np.array([[0, 0]])
    assert correlation_maps(features, points)[0, 0, 1] > 0.99
    assert correlation_maps(centred(features, "image"), points)[0, 0, 1] == pytest.approx(-1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"centre": "median"}, "centre must be one of none, image, dataset, both, got 'median'"),
        ({"centre": "dataset"}, r"centre dataset needs the data set's mean, of shape \(2,\), got None"),
        ({"centre": "both", "mean": np.zeros(3)}, r"of shape \(2,\), got \(3,\)"),
        ({"parts": (1, 2)}, r"parts must add up to the 2 channels of the features, got \[1, 2\]"),
    ],
)
def test_a_centre_that_cannot_be_taken_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        centred(FEATURES, **arguments)
    with pytest.raises(ValueError, match=r"features must have shape \(C, H, W\), got \(2, 2\)"):
        centred(np.zeros((2, 2)))


ROW = np.array([[[1.0, 0.0, -1.0, 0.0]], [[0.0, 1.0, 0.0, -1.0]]])  # four vectors a quarter turn apart
INSIDE, OUTSIDE = np.array([[0, 0]]), np.array([[0, 2]])


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_the_vote_weighs_points_by_their_correlation(convert):
    """e^k to e^-k at the points themselves, a draw for what is as far from both."""
    found = np.asarray(nearest_point_vote(convert(ROW), INSIDE, OUTSIDE, sharpness=2.0))
    first = np.exp(2) / (np.exp(2) + np.exp(-2))
    np.testing.assert_allclose(found, [[first, 0.5, 1 - first, 0.5]])


def test_a_class_of_two_kinds_is_voted_for_by_the_nearer_one():
    """The second kind of target is opposite to the first, so that their mean is nothing."""
    inside, outside = np.array([[0, 0], [0, 2]]), np.array([[0, 1]])
    found = nearest_point_vote(ROW, inside, outside, sharpness=15.0)
    assert found[0, 0] > 0.99
    assert found[0, 2] > 0.99
    assert found[0, 1] < 0.01


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_the_discriminant_is_ridge_regression_of_the_points_signs(convert):
    """Against the normal equations (F F' + ridge I) w = F y, solved densely."""
    features = np.random.default_rng(0).normal(size=(3, 4, 5))
    inside, outside = np.array([[0, 0], [1, 3]]), np.array([[3, 4], [2, 2], [0, 4]])
    flat = features.reshape(3, -1)
    flat = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True) / np.sqrt(3)
    samples = np.stack([flat[:, row * 5 + column] for row, column in [*inside, *outside]], axis=1)
    y = np.array([1, 1, -1, -1, -1])
    w = np.linalg.solve(samples @ samples.T + 0.5 * np.eye(3), samples @ y)
    expected = np.clip((1 + w @ flat) / 2, 0, 1).reshape(4, 5)
    found = linear_discriminant(convert(features), inside, outside, ridge=0.5)
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


def test_a_prior_stands_where_no_feature_resembles_a_point_and_is_corrected_where_one_does():
    features = np.zeros((2, 1, 4))
    features[0, 0, :2], features[1, 0, 3] = 1.0, 1e-9
    prior = np.array([[0.2, 0.2, 0.9, 0.6]])
    found = linear_discriminant(features, np.array([[0, 0]]), np.array([[0, 2]]), ridge=0.1, prior=prior)
    assert found[0, 1] == pytest.approx(found[0, 0])  # as the point beside it, whose features it has
    assert found[0, 0] > 0.5 > prior[0, 0]
    right = np.array([[1.0, 1.0, 0.0, 0.6]])  # right at both points: nothing is left to learn
    unchanged = linear_discriminant(features, np.array([[0, 0]]), np.array([[0, 2]]), prior=right)
    np.testing.assert_allclose(unchanged, right)


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (nearest_point_vote, {"sharpness": 0}, "sharpness must be a number greater than 0, got 0"),
        (linear_discriminant, {"ridge": -1.0}, "ridge must be a number greater than 0, got -1.0"),
    ],
)
def test_a_tunable_out_of_its_range_is_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(ROW, INSIDE, OUTSIDE, **arguments)
    with pytest.raises(ValueError, match="out_points lie outside the 1x4 map"):
        function(ROW, INSIDE, np.array([[0, 4]]))
