"""Thousands of points: few vectors stand for them, the work does not grow with their number, nor does u suffer."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import ContrastEvidence, contrast_maps, linear_discriminant, segment
from cvm_monai.variational.contrast import mean_contrast
from cvm_monai.variational.evidence import MOST_SOLVED
from cvm_monai.variational.representatives import MOST, representatives

SIDE = 40
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
DISC = (ROWS - 20) ** 2 + (COLUMNS - 18) ** 2 < 150
WRONG = 0.3
"""Standard deviation of the noise of each channel."""


def tissue(seed: int = 0) -> np.ndarray:
    """Features (6, 40, 40): a target of two kinds, left and right, on a ground of a third, with noise."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(3, 6))
    which = np.where(DISC, np.where(COLUMNS < 18, 0, 1), 2)
    return np.moveaxis(kinds[which], -1, 0) + WRONG * rng.normal(size=(6, SIDE, SIDE))


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many points of each class, with repetition."""
    rng = np.random.default_rng(1)
    return tuple(found[rng.integers(len(found), size=count)] for found in (np.argwhere(DISC), np.argwhere(~DISC)))


def dice(u: np.ndarray) -> float:
    return 2 * ((u > 0.5) & DISC).sum() / ((u > 0.5).sum() + DISC.sum())


def test_few_vectors_stand_for_themselves():
    vectors = np.random.default_rng(0).normal(size=(3, MOST))
    assert representatives(vectors) is vectors


def test_groups_hold_alike_vectors_and_their_means_have_length_one():
    right, up = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    vectors = np.concatenate([np.tile(right, 6), np.tile(up, 6)], axis=1)[:, [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    found = representatives(vectors, most=2)
    assert sorted(found.T.round(12).tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    spread = np.random.default_rng(0).normal(size=(5, 1000))
    spread /= np.linalg.norm(spread, axis=0)
    many = representatives(torch.from_numpy(spread).float())
    assert (many.shape, many.dtype) == ((5, MOST), torch.float32)
    torch.testing.assert_close(many.norm(dim=0), torch.ones(MOST))


@pytest.mark.parametrize("combination", ["pooled", "max", "vote", "mean"])
def test_u_of_thousands_of_points_is_no_worse_than_that_of_as_many_as_stand_for_themselves(combination):
    features, settings = tissue(), {"combination": combination, "lam": 1.0}
    few, many = (dice(segment(features, *drawn(count), **settings).u) for count in (MOST, 4000))
    assert few > 0.9
    assert many >= few - 0.005


@pytest.mark.parametrize("count", [MOST_SOLVED - 1, MOST_SOLVED, MOST_SOLVED + 1, 4000])
def test_the_maps_of_any_number_of_points_that_are_solved_are_at_most_so_many(count):
    maps = ContrastEvidence(combination="mean").maps(tissue(), *drawn(count))
    assert maps.shape == (min(count, MOST_SOLVED), SIDE, SIDE)


def test_up_to_so_many_points_each_has_its_own_map():
    features, (inside, outside) = tissue(), drawn(MOST_SOLVED)
    plain = ContrastEvidence(combination="mean", contrast="one_sided", centre="none", discriminant=0)
    np.testing.assert_allclose(
        plain.maps(features, inside, outside), contrast_maps(features, inside, outside), atol=1e-12
    )


def test_the_discriminant_of_more_points_than_channels_is_that_of_the_dual_problem():
    features, (inside, outside) = tissue(), drawn(10)
    flat = features.reshape(6, -1)
    flat = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True) / np.sqrt(6)
    points = np.concatenate([inside, outside])
    samples = flat[:, points[:, 0] * SIDE + points[:, 1]]
    y = np.repeat([1.0, -1.0], 10)
    dual = samples @ np.linalg.solve(samples.T @ samples + np.eye(20), y)
    expected = np.clip((1 + dual @ flat) / 2, 0, 1).reshape(SIDE, SIDE)
    np.testing.assert_allclose(linear_discriminant(features, inside, outside), expected, atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_the_compiled_loops_give_what_the_formula_gives(monkeypatch, dtype, tolerance):
    features = tissue().astype(dtype)
    points = drawn(7)
    compiled = contrast_maps(features, *points)
    assert compiled.dtype == dtype
    monkeypatch.setattr("cvm_monai.variational.contrast.find_spec", lambda name: None)
    np.testing.assert_allclose(compiled, contrast_maps(features, *points), atol=tolerance)


def test_a_pair_without_contrast_adds_nothing_and_a_gradient_goes_through():
    inside, outside = torch.ones(1, 3, 3, dtype=torch.float64), torch.ones(2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(mean_contrast(inside, outside, eta=0.5), torch.zeros_like(inside))
    sloped = torch.arange(9.0).reshape(1, 3, 3).requires_grad_()
    mean_contrast(sloped, outside.float(), eta=0.5).sum().backward()
    assert sloped.grad.abs().sum() > 0
