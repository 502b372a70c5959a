"""The AOS step against the published scheme's own output and against a dense assembly of its definition."""

import numpy as np
import pytest

from cvm_monai.variational import aos_step
from cvm_monai.variational.chan_vese import PENALTY_CURVATURE, PENALTY_WIDTH, penalty, penalty_derivative

GOLDEN = ("analytic24", "blob64", "blob128", "tissue128", "tissue256")


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_the_published_scheme(shared_dir, name):
    golden = np.load(shared_dir / "golden" / f"{name}.npz")
    u, tau, residuals = golden["u0"], float(golden["tau"]), []
    for step in range(1, int(golden["iters"]) + 1):
        tau = max(1e-3, 0.9 * tau) if step % 50 == 0 else tau
        before = u
        u = aos_step(u, golden["f"], golden["g"], tau=tau, beta=float(golden["beta"]), alpha=float(golden["alpha"]))
        residuals.append(np.linalg.norm(u - before) / np.linalg.norm(before))
        if step == 1:
            np.testing.assert_allclose(u, golden["u_first"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(u, golden["u_last"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(residuals, np.ravel(golden["residuals"])[: len(residuals)], rtol=0, atol=1e-12)


def dense_step(u, f, g, *, tau, beta, alpha):
    """The step as its definition reads: loops over pixels, one dense system for each direction."""
    height, width = u.shape
    size = u.size

    def transverse(line, index):
        if len(line) == 1:
            return 0.0
        low, high = max(index - 1, 0), min(index + 1, len(line) - 1)
        return (line[high] - line[low]) / 2

    near = [abs(value) <= PENALTY_WIDTH or abs(value - 1) <= PENALTY_WIDTH for value in u.ravel()]
    weight = np.array([1 + tau * alpha * PENALTY_CURVATURE * flag for flag in near])
    right = weight * u.ravel() - tau * f.ravel() - tau * alpha * penalty_derivative(u).ravel()
    solutions = []
    for down, along in ((1, 0), (0, 1)):
        matrix = np.diag(weight)
        for row in range(height - down):
            for column in range(width - along):
                step = u[row + down, column + along] - u[row, column]
                across = transverse(u[row], column) if down else transverse(u[:, column], row)
                coupling = 2 * tau * g[row, column] / np.sqrt(step**2 + across**2 + beta)
                here, there = row * width + column, (row + down) * width + column + along
                matrix[[here, there], [here, there]] += coupling
                matrix[[here, there], [there, here]] -= coupling
        assert matrix.shape == (size, size)
        solutions.append(np.linalg.solve(matrix, right))
    return (sum(solutions) / 2).reshape(u.shape)


@pytest.mark.parametrize("shape", [(7, 5), (1, 9), (9, 1), (2, 2), (12, 12)])
def test_agrees_with_a_dense_solve(shape):
    rng = np.random.default_rng(3)
    u, f, g = rng.random(shape), rng.normal(size=shape), 0.1 + rng.random(shape)
    settings = {"tau": 0.02, "beta": 1e-4, "alpha": 3.0}
    np.testing.assert_allclose(aos_step(u, f, g, **settings), dense_step(u, f, g, **settings), atol=1e-12)


def test_a_batch_equals_its_maps_one_by_one():
    rng = np.random.default_rng(4)
    u, f, g = rng.random((2, 3, 9, 6)), rng.normal(size=(2, 3, 9, 6)), rng.random((2, 3, 9, 6))
    alpha = rng.random((2, 3, 1, 1)) + 1
    batched = aos_step(u, f, g, tau=0.01, beta=1e-6, alpha=alpha)
    for index in np.ndindex(2, 3):
        one = aos_step(u[index], f[index], g[index], tau=0.01, beta=1e-6, alpha=float(alpha[index].item()))
        np.testing.assert_allclose(batched[index], one, rtol=0, atol=1e-14)


def test_keeps_float32():
    u = np.random.default_rng(5).random((8, 8), dtype=np.float32)
    assert aos_step(u, u - np.float32(0.5), np.ones_like(u), tau=0.01, beta=1e-6, alpha=0.5).dtype == np.float32


def test_a_map_larger_than_one_block_equals_the_dense_answer_of_its_lines(monkeypatch):
    rng = np.random.default_rng(6)
    u, f, g = rng.random((11, 8)), rng.normal(size=(11, 8)), rng.random((11, 8))
    whole = aos_step(u, f, g, tau=0.01, beta=1e-6, alpha=1.0)
    monkeypatch.setattr("cvm_monai.variational.aos.BLOCK_BYTES", 128)
    np.testing.assert_array_equal(aos_step(u, f, g, tau=0.01, beta=1e-6, alpha=1.0), whole)


def test_the_penalty_s_derivative_is_its_slope():
    u = np.linspace(-0.2, 1.2, 57)
    step = 1e-6
    slope = (penalty(u + step) - penalty(u - step)) / (2 * step)
    np.testing.assert_allclose(penalty_derivative(u), slope, rtol=1e-6, atol=1e-7)


def test_the_penalty_s_curvature_at_the_bounds_is_the_published_number():
    step = 1e-6
    low, middle, high = penalty_derivative(np.array([-step, 0.0, step]))
    assert (high - low) / (2 * step) == pytest.approx(PENALTY_CURVATURE, rel=1e-6)
    assert middle == pytest.approx(-1.5411142024932354, abs=1e-14)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"f": np.zeros((3, 4))}, r"u, f and g must have one shape .*, got \(3, 3\), \(3, 4\) and \(3, 3\)"),
        ({"g": np.full((3, 3), np.inf)}, "g must be finite, got 9 NaN or infinity"),
        ({"u": np.full((3, 3), np.nan)}, "u must be finite, got 9 NaN or infinity"),
        ({"alpha": np.nan}, "alpha must be finite, got 1 NaN or infinity"),
        ({"tau": 0.0}, "tau must be a finite number greater than 0, got 0.0"),
        ({"beta": -1e-6}, "beta must be a finite number greater than 0, got -1e-06"),
    ],
)
def test_bad_input_is_named(change, message):
    maps = {name: np.full((3, 3), 0.5) for name in "ufg"}
    with pytest.raises(ValueError, match=message):
        aos_step(**({**maps, "tau": 0.01, "beta": 1e-6, "alpha": 1.0} | change))


def test_keeps_memory_order_out_of_the_answer():
    rng = np.random.default_rng(7)
    u, f, g = rng.random((9, 7)), rng.normal(size=(9, 7)), rng.random((9, 7)) + 0.1
    turned = [np.asfortranarray(part) for part in (u, f, g)]
    settings = {"tau": 0.01, "beta": 1e-6, "alpha": 1.0}
    np.testing.assert_array_equal(aos_step(*turned, **settings), aos_step(u, f, g, **settings))


@pytest.mark.parametrize("shape", [(5, 200), (200, 5), (3, 161)])
def test_wide_and_narrow_maps_go_through_different_solvers_with_one_answer(shape, monkeypatch):
    rng = np.random.default_rng(8)
    u, f, g = rng.random(shape), rng.normal(size=shape), rng.random(shape) + 0.1
    settings = {"tau": 0.01, "beta": 1e-6, "alpha": 1.0}
    found = aos_step(u, f, g, **settings)
    for columns in (1, 1000):
        monkeypatch.setattr("cvm_monai.variational.aos.FEWEST_COLUMNS", columns)
        np.testing.assert_allclose(aos_step(u, f, g, **settings), found, rtol=0, atol=1e-13)
