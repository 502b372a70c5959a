"""The certified optimum against every labelling of small maps, and against its own dual bound."""

import itertools

import numpy as np
import pytest

from cvm_monai.variational import Status, normalise, solve
from cvm_monai.variational.chan_vese import edge_detector, region_term, threshold_means, total_variation_field
from cvm_monai.variational.primal_dual import primal_dual_step, relative_gap, start_dual

AOS = {"method": "aos", "lam": 2.0}
"""The paper's solver and the weight of its released script."""


def problem(z, lam):
    """Data term and edge detector of a map, with the means of its threshold."""
    f = region_term(z, threshold_means(z))
    return lam * f / np.abs(f).max(), edge_detector(z)


def objective(u, f, g):
    return (g * total_variation_field(u) + f * u).sum(axis=(-2, -1))


def optimum(f, g, steps):
    u, dual = np.clip(f * 0, 0, 1), start_dual(f * 0)
    for _ in range(steps):
        primal_dual_step(u, dual, f, g)
    return u, relative_gap(u, dual, f, g)


@pytest.mark.parametrize("seed, lam", [(0, 0.3), (1, 0.8), (2, 2.0)])
def test_no_labelling_of_a_4x4_map_is_below_the_certified_optimum(seed, lam):
    f, g = problem(np.random.default_rng(seed).random((4, 4)), lam)
    labellings = np.array(list(itertools.product([0.0, 1.0], repeat=16))).reshape(-1, 4, 4)
    best = objective(labellings, f, g).min()
    u, gap = optimum(f, g, 3000)
    assert objective(u, f, g) <= best + 1e-6
    assert gap < 1e-6
    assert gap > -1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_a_line_the_optimum_equals_the_best_labelling(seed):
    f, g = problem(np.random.default_rng(seed).random((1, 12)), 0.5)
    labellings = np.array(list(itertools.product([0.0, 1.0], repeat=12))).reshape(-1, 1, 12)
    best = objective(labellings, f, g).min()
    u, _ = optimum(f, g, 8000)
    assert objective(u, f, g) == pytest.approx(best, abs=1e-6)


def test_the_gap_bounds_the_distance_to_the_optimum_at_every_step():
    f, g = problem(np.random.default_rng(3).random((9, 7)), 0.7)
    best = objective(optimum(f, g, 5000)[0], f, g)
    u, dual = np.zeros_like(f), start_dual(np.zeros_like(f))
    for _ in range(60):
        primal_dual_step(u, dual, f, g)
        above = (objective(u, f, g) - best) / np.abs(f).sum()
        assert -1e-9 <= above <= relative_gap(u, dual, f, g) + 1e-12


@pytest.mark.parametrize("name", ["analytic24", "blob64", "blob128", "tissue128", "tissue256"])
def test_the_golden_maps_are_solved_to_a_gap_of_1e_4(shared_dir, name):
    z = np.load(shared_dir / "golden" / f"{name}.npz")["z"]
    solution = solve(z, method="primal_dual", lam=2.0, iterations=1000, tolerance=1e-4, means="fixed")
    assert solution.status.item() is Status.CONVERGED
    assert solution.gap < 1e-4


def test_aos_ends_above_the_certified_optimum():
    z = normalise(np.random.default_rng(4).random((24, 24)).cumsum(0).cumsum(1) % 7)
    certified = solve(z, method="primal_dual", lam=2.0, iterations=2000, tolerance=1e-6, means="fixed")
    assert solve(z, **AOS, iterations=50, tolerance=0, means="fixed").energy > certified.energy


def test_alternating_means_settle_and_do_not_raise_the_energy():
    z = np.zeros((20, 20))
    z[4:14, 5:16] = 0.8
    z = normalise(z + 0.15 * np.random.default_rng(5).normal(size=z.shape))
    settings = {"method": "primal_dual", "lam": 2.0, "iterations": 3000, "tolerance": 1e-5}
    fixed, alternating = solve(z, means="fixed", **settings), solve(z, means="alternating", **settings)
    assert alternating.status.item() is Status.CONVERGED
    assert alternating.energy <= fixed.energy * (1 + 1e-4)
    assert (alternating.c1, alternating.c2) != (fixed.c1, fixed.c2)


def test_u_stays_between_0_and_1_and_the_dual_field_below_the_edge_detector():
    f, g = problem(np.random.default_rng(6).random((2, 8, 8)), 1.0)
    u, dual = np.zeros_like(f), start_dual(np.zeros_like(f))
    for _ in range(50):
        primal_dual_step(u, dual, f, g)
        assert u.min() >= 0
        assert u.max() <= 1
        assert (np.hypot(dual.down, dual.along) <= g * (1 + 1e-12)).all()
