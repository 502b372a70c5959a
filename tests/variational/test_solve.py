"""The solver's loop, its results for maps that cannot be solved, and the pseudo-label of one image."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import (
    Status,
    average,
    euclidean_distance,
    geodesic_distance,
    normalise,
    segment,
    solve,
)
from cvm_monai.variational.backends import load
from cvm_monai.variational.chan_vese import (
    Means,
    edge_detector,
    energy,
    region_term,
    threshold_means,
    weighted_means,
)
from cvm_monai.variational.loop import init, step, terminate
from cvm_monai.variational.settings import Settings

AOS = {"method": "aos", "lam": 2.0}
"""The paper's solver and the weight of its released script."""


def disc(size=32, radius=9, noise=0.0, seed=0):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    truth = (rows**2 + columns**2 <= radius**2).astype(float)
    noisy = truth * 0.8 + 0.1 + noise * np.random.default_rng(seed).normal(size=truth.shape)
    return truth, normalise(noisy)


@pytest.mark.parametrize("method, iterations", [("aos", 100), ("primal_dual", 200)])
def test_a_disc_in_noise_is_cleaned(method, iterations):
    truth, z = disc(noise=0.2)
    before = ((z > 0.5) != truth.astype(bool)).mean()
    solution = solve(z, method=method, lam=2.0, iterations=iterations)
    after = ((solution.u > 0.5) != truth.astype(bool)).mean()
    assert before > 0.04
    assert after < before / 4


def test_a_noiseless_disc_is_found_exactly():
    truth, z = disc()
    np.testing.assert_array_equal(solve(z, **AOS, iterations=100).u > 0.5, truth.astype(bool))


def test_means_alternate_to_those_of_the_segmentation():
    _, z = disc(noise=0.15)
    solution = solve(z, **AOS, iterations=200, tolerance=0)
    means = weighted_means(z, solution.u)
    assert solution.c1 == pytest.approx(means.inside.item(), abs=2e-3)
    assert solution.c2 == pytest.approx(means.outside.item(), abs=2e-3)


def test_fixed_means_stay_those_of_the_threshold():
    _, z = disc(noise=0.15)
    solution = solve(z, **AOS, iterations=20, means="fixed")
    assert solution.c1 == pytest.approx(z[z > 0.5].mean())
    assert solution.c2 == pytest.approx(z[z <= 0.5].mean())


def test_one_bad_map_never_harms_the_others():
    _, z = disc(noise=0.1)
    bad = np.stack([z, np.zeros_like(z), np.full_like(z, np.nan), 0.4 * z, z[::-1]])
    solution = solve(bad, **AOS, iterations=30)
    expected = [None, Status.CONSTANT_MAP, Status.NON_FINITE, Status.EMPTY_PHASE, None]
    assert [status if not status.usable else None for status in solution.status] == expected
    for index in (0, 4):
        np.testing.assert_allclose(solution.u[index], solve(bad[index], **AOS, iterations=30).u, atol=1e-12)
    assert not solution.u[1:4].any()


def test_a_batch_equals_its_maps_one_by_one_also_when_they_stop_at_different_steps():
    maps = np.stack([disc(noise=noise, radius=radius)[1] for noise, radius in ((0, 5), (0.1, 9), (0.3, 12))])
    batch = solve(maps, **AOS, tolerance=4e-3, iterations=80)
    assert len(set(batch.iterations.tolist())) > 1
    for index, z in enumerate(maps):
        one = solve(z, **AOS, tolerance=4e-3, iterations=80)
        assert one.iterations == batch.iterations[index]
        np.testing.assert_allclose(batch.u[index], one.u, atol=1e-12)
        np.testing.assert_allclose(batch.energy[index], one.energy, rtol=1e-12)


@pytest.mark.parametrize("method", ["aos", "primal_dual"])
def test_a_map_with_one_hot_pixel_says_that_its_optimum_is_empty(method):
    z = np.zeros((24, 24))
    z[12, 12] = 1.0  # its border costs more than its data
    solution = solve(z, method=method, lam=0.05, iterations=1000, tolerance=0)
    assert solution.status.item() is Status.EMPTY_PHASE
    assert not solution.u.any()


def test_one_hot_pixel_is_kept_where_its_data_outweigh_its_border():
    z = np.zeros((9, 9))
    z[4, 4] = 1.0
    solution = solve(z, method="primal_dual", lam=5.0, iterations=1000, tolerance=1e-6)
    np.testing.assert_allclose(solution.u, z, atol=1e-3)


@pytest.mark.parametrize("method", ["aos", "primal_dual"])
def test_a_flat_map_has_nothing_to_segment(method):
    solution = solve(np.full((6, 7), 0.7), method=method)
    assert solution.status.item() is Status.CONSTANT_MAP
    assert (solution.u == 0).all()
    assert solution.iterations == 0


BRIDGE = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=float,
)


@pytest.mark.parametrize("lam, bridge", [(2.0, 1), (0.6, 0)])
def test_a_thin_bridge_stands_or_falls_with_lam(lam, bridge):
    expected = BRIDGE.copy()
    expected[3, 5:9] = bridge
    solution = solve(BRIDGE, method="primal_dual", lam=lam, iterations=4000, tolerance=1e-6, means="fixed")
    np.testing.assert_array_equal(solution.u > 0.5, expected == 1)
    other = BRIDGE.copy()
    other[3, 5:9] = 1 - bridge
    means, weight = Means(np.ones((1, 1)), np.zeros((1, 1))), lam
    energies = [energy(u, BRIDGE, edge_detector(BRIDGE), means, weight=weight) for u in (expected, other)]
    assert energies[0] < energies[1]


def test_alternating_means_never_raise_the_energy_beyond_the_certified_gap():
    z = disc(noise=0.3, seed=2)[1][None]
    settings = Settings(method="primal_dual", lam=2.0, iterations=3000, tolerance=1e-4)
    backend, state, lowest, renewals = load("numpy"), init(z, None, settings), np.inf, 0
    weight = settings.lam / state.scale
    for number in range(1, settings.iterations + 1):
        step(state, settings, backend, number=number)
        means, f = state.means, state.f
        ended = terminate(state, settings, backend, number=number)
        if number % 10 == 0 and state.gap < settings.tolerance:
            reached = energy(state.u, z, state.g, means, weight=weight).item()
            assert reached <= lowest + state.gap.item() * np.abs(f).sum() + 1e-9
            lowest = energy(state.u, z, state.g, state.means, weight=weight).item()
            assert lowest <= reached + 1e-9
            renewals += state.means is not means
        if ended.all():
            break
    assert ended.all()
    assert renewals >= 2


def test_a_fitting_term_keeps_what_is_near_the_points_and_drops_the_rest():
    z = np.zeros((12, 30))
    z[3:9, 3:9] = z[3:9, 21:27] = 1.0
    near = z.copy()
    near[:, 15:] = 0
    settings = {"method": "primal_dual", "lam": 2.0, "iterations": 2000, "tolerance": 1e-6, "means": "fixed"}
    for distance in (
        euclidean_distance(np.array([[5, 5]]), shape=z.shape),
        geodesic_distance(z, np.array([[5, 5]])),
    ):
        np.testing.assert_array_equal(solve(z, fitting=0 * distance, **settings).u > 0.5, z == 1)
        selected = solve(z, fitting=3 * distance, **settings)
        np.testing.assert_array_equal(selected.u > 0.5, near == 1)
        whole = energy(z, z, edge_detector(z), Means(selected.c1, selected.c2), weight=2.0, fitting=3 * distance)
        assert selected.energy < whole


def test_aos_takes_the_fitting_term_too_and_counts_it_in_the_energy():
    _, z = disc(noise=0.1)
    push = np.where(np.arange(32) < 16, 0.0, 4.0)
    solution = solve(z, **AOS, fitting=push, iterations=200)
    assert not (solution.u[:, 18:] > 0.5).any()
    assert (solution.u[12:20, 8:14] > 0.5).all()
    weight = 2.0 / np.abs(region_term(z, threshold_means(z))).max()
    means = Means(solution.c1, solution.c2)
    expected = energy(solution.u, z, edge_detector(z), means, weight=weight) + (push * solution.u).sum()
    assert solution.energy == pytest.approx(expected, rel=1e-3)  # u is cut to [0, 1] in both


def test_a_map_that_overflows_is_not_finite_and_harms_no_other():
    _, z = disc(noise=0.1)
    with np.errstate(all="ignore"):
        solution = solve(np.stack([z, z * 1e200, z]), **AOS, iterations=20)
    assert [status.usable for status in solution.status] == [True, False, True]
    assert solution.status[1] is Status.NON_FINITE
    np.testing.assert_array_equal(solution.u[0], solution.u[2])
    assert not solution.u[1].any()


def test_the_history_ends_with_the_energy_returned():
    _, z = disc(noise=0.2)
    solution = solve(z, **AOS, iterations=15, tolerance=0, history=True)
    assert solution.history.shape == (15,)
    assert solution.history[-1] == solution.energy
    assert solution.history[-1] < solution.history[0]


def test_the_iteration_limit_and_convergence_are_told_apart():
    _, z = disc(noise=0.2)
    assert solve(z, **AOS, iterations=2, tolerance=1e-9).status.item() is Status.ITERATION_LIMIT
    assert solve(z, **AOS, iterations=500, tolerance=1e-2).status.item() is Status.CONVERGED


def test_the_energy_is_the_sum_written_out():
    u = np.array([[0.0, 1.0], [0.0, 0.5]])
    z = np.array([[0.1, 0.9], [0.2, 0.6]])
    g = np.array([[1.0, 0.5], [0.25, 1.0]])
    c1, c2, weight = 0.8, 0.2, 3.0
    variation = 1.0 * 1.0 + 0.5 * 0.5 + 0.25 * 0.5  # forward differences, zero beyond the far border
    regions = (0.1 - c2) ** 2 + (0.9 - c1) ** 2 + (0.2 - c2) ** 2 + 0.5 * (0.6 - c1) ** 2 + 0.5 * (0.6 - c2) ** 2
    found = energy(u, z, g, Means(np.array([[c1]]), np.array([[c2]])), weight=weight)
    assert found == pytest.approx(variation + weight * regions)


def test_the_edge_detector_is_one_on_a_flat_map_and_low_on_an_edge():
    z = np.zeros((9, 12))
    z[:, 6:] = 1.0
    g = edge_detector(z)
    np.testing.assert_allclose(g[:, [0, 1, 11]], 1.0, atol=1e-12)
    assert (g[:, 5:7] < 0.5).all()


def test_the_edge_detector_agrees_with_the_published_one(shared_dir):
    golden = np.load(shared_dir / "golden" / "tissue128.npz")
    np.testing.assert_allclose(edge_detector(golden["z"]), golden["g"], rtol=0, atol=1e-12)


def test_the_region_term_agrees_with_the_published_data_term(shared_dir):
    golden = np.load(shared_dir / "golden" / "blob64.npz")
    term = region_term(golden["z"], threshold_means(golden["z"]))
    np.testing.assert_allclose(2 * term / term.max(), golden["f"], rtol=0, atol=1e-12)


def test_segment_finds_the_half_whose_features_match_the_in_target_point():
    features = np.zeros((2, 16, 16))
    features[0, :, :8], features[1, :, 8:] = 1.0, 1.0
    result = segment(features, np.array([[3, 2]]), np.array([[3, 12]]))
    assert result.u is not None
    np.testing.assert_array_equal(result.u > 0.5, np.broadcast_to(np.arange(16) < 8, (16, 16)))
    assert result.u.dtype == np.float32
    assert (result.u.min(), result.u.max()) == (0, 1)


def test_segment_gives_no_pseudo_label_where_features_are_alike():
    points = np.array([[1, 1], [2, 2]]), np.array([[6, 6]])
    for combination, count in (("mean", 2), ("pooled", 1)):
        result = segment(np.ones((3, 8, 8)), *points, combination=combination)
        assert result.u is None
        assert [status for status in result.solution.status] == [Status.CONSTANT_MAP] * count


def test_the_average_leaves_out_points_without_two_phases():
    _, z = disc()
    solution = solve(np.stack([z, np.zeros_like(z)]), **AOS)
    np.testing.assert_allclose(average(solution), normalise(solution.u[0]), atol=1e-7)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"z": np.zeros(4)}, r"z must have shape \(\.\.\., H, W\) with at least one pixel, got \(4,\)"),
        ({"z": np.zeros((3, 0))}, r"at least one pixel, got \(3, 0\)"),
        ({"z": np.zeros((3, 3), dtype=int)}, "z must be of type float32 or float64, got int64"),
        ({"z": torch.zeros(3, 3, dtype=torch.float16)}, "z must be of type float32 or float64, got torch.float16"),
        ({"z": [[0.0, 1.0]]}, "z must be a NumPy array or a torch tensor, got list"),
        ({"lam": 0}, "lam must be a finite number greater than 0, got 0"),
        ({"lam": float("nan")}, "lam must be a finite number greater than 0, got nan"),
        ({"tau": -1.0}, "tau must be a finite number greater than 0, got -1.0"),
        ({"beta": float("inf")}, "beta must be a finite number greater than 0, got inf"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ({"iterations": 2.5}, "iterations must be a whole number of at least 1, got 2.5"),
        ({"tolerance": -1}, "tolerance must be a finite number of at least 0, got -1"),
        ({"fitting": np.zeros((2, 2))}, r"fitting must broadcast to z's shape \(3, 3\), got \(2, 2\)"),
        ({"fitting": np.full((3, 3), np.nan)}, "fitting must be finite, got 9 NaN or infinite values"),
        ({"backend": "magic"}, r"backend must be one of .*, got 'magic'"),
        ({"backend": "numpy", "device": "cuda"}, "backend 'numpy' computes on the CPU only, got device 'cuda'"),
        ({"means": "median"}, r"means must be one of \('alternating', 'fixed'\), got 'median'"),
        ({"method": "magic"}, r"method must be one of .*, got 'magic'"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(**({"z": np.zeros((3, 3))} | arguments))


@pytest.mark.parametrize(
    "radius, lam, kept", [(6, 0.25, True), (6, 0.125, False), (12, 0.125, True), (12, 0.0625, False)]
)
def test_the_smallest_disc_that_stays_has_a_radius_of_one_over_lam(radius, lam, kept):
    truth, _ = disc(size=4 * radius + 16, radius=radius)
    solution = solve(truth, method="primal_dual", lam=lam, iterations=4000, tolerance=1e-4, means="fixed")
    assert (solution.status.item() is not Status.EMPTY_PHASE) is kept
