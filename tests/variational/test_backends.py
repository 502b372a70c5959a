"""Every backend gives what NumPy gives: single steps, whole solves, batches, both float types, torch in and out."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import Status, aos_step, normalise, primal_dual, solve
from cvm_monai.variational.backends import choose, load

AOS = {"method": "aos", "lam": 2.0}
"""The paper's solver and the weight of its released script."""

pytest.importorskip("numba", reason="the compiled backend is optional")
OTHERS = ("numba", "torch")
TYPES = [(np.float64, 1e-12), (np.float32, 2e-6)]
SHAPES = [(2, 20, 70), (1, 1, 9), (2, 9, 1), (1, 1, 1), (3, 33, 35)]


def step_input(shape, dtype, seed=0):
    """u a little beyond [0, 1], f, g and alpha, in the backend's own kind."""
    rng = np.random.default_rng(seed)
    u, f, g = rng.random(shape) * 1.04 - 0.02, rng.normal(size=shape), 0.1 + rng.random(shape)
    return [part.astype(dtype) for part in (u, f, g, 1 + rng.random((shape[0], 1, 1)))]


def as_backend(name, *arrays):
    return [torch.from_numpy(part.copy()) if name == "torch" else part.copy() for part in arrays]


def maps(count=4, size=40, dtype=np.float64):
    rows, columns = np.mgrid[:size, :size] - size / 2
    discs = [(rows**2 + columns**2 < (6 + 3 * n) ** 2) for n in range(count)]
    noise = np.random.default_rng(1).normal(size=(count, size, size))
    return normalise(np.array(discs) + 0.25 * noise).astype(dtype)


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OTHERS)
def test_an_aos_step_equals_numpy_s(name, shape, dtype, tolerance):
    u, f, g, alpha = step_input(shape, dtype)
    expected = aos_step(u, f, g, tau=0.02, beta=1e-5, alpha=alpha)
    parts = as_backend(name, u, f, g, alpha, u)
    found = load(name).aos_step(*parts[:3], tau=0.02, beta=1e-5, alpha=parts[3], out=parts[4])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OTHERS)
def test_primal_dual_steps_and_their_gap_equal_numpy_s(name, shape, dtype, tolerance):
    u, f, g, _ = step_input(shape, dtype)
    results = {}
    for backend in ("numpy", name):
        own_u, own_f, own_g = as_backend(backend, u.clip(0, 1), f, g)
        dual = primal_dual.start_dual(own_u)
        for _ in range(9):
            load(backend).primal_dual_step(own_u, dual, own_f, own_g, ratio=0.6)
        gap = load(backend).relative_gap(own_u, dual, own_f, own_g)
        results[backend] = [np.asarray(part) for part in (own_u, dual.down, dual.along, dual.extrapolated, gap)]
    for found, expected in zip(results[name], results["numpy"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert results[name][4].dtype == np.float64


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("golden", ["analytic24", "blob64", "tissue128"])
def test_an_aos_step_agrees_with_the_published_scheme(shared_dir, golden, name):
    data = np.load(shared_dir / "golden" / f"{golden}.npz")
    alpha = np.full((1, 1, 1), float(data["alpha"]))
    u, f, g, out, alpha = as_backend(
        name, *(np.array(data[key], order="C")[None] for key in ("u0", "f", "g", "u0")), alpha
    )
    found = load(name).aos_step(u, f, g, tau=float(data["tau"]), beta=float(data["beta"]), alpha=alpha, out=out)
    np.testing.assert_allclose(found[0], data["u_first"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["aos", "primal_dual"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_whole_solve_equals_numpy_s(name, method):
    z = maps()
    settings = {"method": method, "lam": 0.5, "iterations": 60, "tolerance": 2e-3}
    expected, found = (solve(z, backend=backend, **settings) for backend in ("numpy", name))
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    for attribute in ("u", "c1", "c2", "energy"):
        np.testing.assert_allclose(getattr(found, attribute), getattr(expected, attribute), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method, iterations", [("aos", 5), ("aos", 50), ("primal_dual", 200)])
@pytest.mark.parametrize("name", OTHERS)
def test_in_single_precision_a_solve_agrees_to_1e_5(name, method, iterations):
    z = maps(dtype=np.float32)
    settings = {"method": method, "lam": 2.0, "iterations": iterations, "tolerance": 0}
    expected, found = (solve(z, backend=backend, **settings) for backend in ("numpy", name))
    np.testing.assert_allclose(found.u, expected.u, rtol=0, atol=1e-5)
    assert found.u.dtype == np.float32


@pytest.mark.parametrize("method", ["aos", "primal_dual"])
@pytest.mark.parametrize("name", ["numpy", *OTHERS])
def test_a_batch_equals_its_maps_one_by_one(name, method):
    z = np.stack([*maps(3), np.zeros((40, 40)), np.full((40, 40), np.nan)])
    settings = {"method": method, "lam": 2.0, "backend": name, "iterations": 80, "tolerance": 5e-3}
    batch = solve(z, **settings)
    assert len(set(batch.iterations[:3].tolist())) > 1
    for index, one in enumerate(z):
        single = solve(one, **settings)
        assert batch.status[index] is single.status.item()
        assert batch.iterations[index] == single.iterations
        np.testing.assert_allclose(batch.u[index], single.u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_two_workers_give_what_one_gives(name):
    z = np.concatenate([maps(4, size=200), np.zeros((1, 200, 200))])
    settings = AOS | {"backend": name, "iterations": 6, "tolerance": 1e-2, "history": True}
    one, two = (solve(z, workers=workers, **settings) for workers in (1, 2))
    for attribute in ("u", "c1", "c2", "energy", "iterations", "history"):
        np.testing.assert_array_equal(getattr(one, attribute), getattr(two, attribute))
    assert one.history.shape == (one.iterations.max(), 5)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_comes_back_as_torch_of_the_same_type_and_device(backend, dtype):
    z = torch.from_numpy(maps(2)).to(dtype).reshape(2, 1, 40, 40).requires_grad_()
    solution = solve(z, **AOS, backend=backend, history=True, iterations=4)
    assert solution.u.shape == z.shape
    assert (solution.u.dtype, solution.u.device) == (dtype, z.device)
    assert not solution.u.requires_grad
    for fact in (solution.c1, solution.c2, solution.energy, solution.gap, solution.iterations):
        assert isinstance(fact, torch.Tensor)
        assert fact.shape == (2, 1)
    assert solution.history.shape == (4, 2, 1)
    expected = solve(z.detach().numpy(), **AOS, iterations=4)
    np.testing.assert_allclose(solution.u, expected.u, rtol=0, atol=1e-5)


def test_numpy_maps_may_be_computed_by_torch_and_come_back_as_numpy():
    solution = solve(maps(2), **AOS, device="cpu", backend="torch", iterations=3)
    assert type(solution.u) is type(solution.energy) is np.ndarray
    expected = solve(maps(2), **AOS, iterations=3)
    np.testing.assert_allclose(solution.u, expected.u, rtol=0, atol=1e-5)
    np.testing.assert_allclose(solution.energy, expected.energy, rtol=1e-5)


def test_a_map_is_left_as_it_was():
    z = maps(2)
    for name in ("numpy", *OTHERS):
        for method in ("aos", "primal_dual"):
            given = torch.from_numpy(z.copy()) if name == "torch" else z.copy()
            solve(given, backend=name, method=method, iterations=12)
            np.testing.assert_array_equal(given, z)


def test_any_memory_layout_is_taken():
    z = maps(2)
    turned = np.asfortranarray(z)[:, ::-1]
    for name in ("numpy", *OTHERS):
        given = turned.copy("K") if name != "torch" else torch.from_numpy(z).flip(1)
        found = solve(given, **AOS, backend=name, iterations=5)
        np.testing.assert_allclose(found.u, solve(z[:, ::-1].copy(), **AOS, iterations=5).u, rtol=0, atol=1e-12)


def test_auto_takes_numba_where_it_is_installed_and_numpy_where_not(monkeypatch):
    z = np.zeros((2, 2))
    assert choose(z, "auto", None)[0] == "numba"
    monkeypatch.setattr("cvm_monai.variational.backends.find_spec", lambda name: None)
    assert choose(z, "auto", None)[0] == "numpy"
    with pytest.raises(ValueError, match=r"backend 'numba' needs numba: pip install numba"):
        choose(z, "numba", None)


def test_no_pseudo_label_is_lost_to_a_backend_without_maps():
    for name in ("numpy", *OTHERS):
        solution = solve(np.zeros((0, 5, 5)), **AOS, backend=name, history=True)
        assert solution.u.shape == (0, 5, 5)
        assert solution.history.shape == (0, 0)
    bad = solve(np.zeros((2, 5, 5)), **AOS, history=True)
    assert [status for status in bad.status] == [Status.CONSTANT_MAP] * 2
    assert bad.history.shape == (0, 2)
