"""The solvers on a CUDA device, in Triton's compiled kernels, against NumPy; skipped where there is no such device."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import segment, solve

AOS = {"method": "aos", "lam": 2.0}
"""The paper's solver and the weight of its released script."""

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

TYPES = [(np.float64, 1e-9), (np.float32, 1e-4)]  # NumPy itself differs by 2e-5 between the two after 50 steps
SHAPES = [(3, 64, 96), (1, 37, 129), (2, 1, 50), (2, 50, 1)]


def maps(shape, dtype):
    """Two-phase maps with noise, so that both phases survive."""
    rng = np.random.default_rng(0)
    z = np.indices(shape[1:]).sum(axis=0) % 32 < 16
    return (0.3 * z + 0.7 * rng.random(shape)).astype(dtype)


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method, iterations", [("aos", 50), ("primal_dual", 200)])
def test_a_solve_on_the_gpu_equals_numpy_s(shape, dtype, tolerance, method, iterations):
    z = maps(shape, dtype)
    settings = {"method": method, "lam": 2.0, "iterations": iterations, "tolerance": 0}
    expected = solve(z, backend="numpy", **settings)
    found = solve(torch.from_numpy(z).cuda(), **settings)
    assert found.u.is_cuda
    np.testing.assert_allclose(found.u.cpu().numpy(), expected.u, rtol=0, atol=tolerance)


def test_more_maps_than_fit_at_once_are_solved_in_groups(monkeypatch):
    monkeypatch.setattr("cvm_monai.variational.backends.ARRAYS_HELD", 1 << 40)  # one map at a time
    z = maps((3, 40, 40), np.float32)
    found = solve(torch.from_numpy(z).cuda(), **AOS, iterations=20, tolerance=0).u.cpu().numpy()
    np.testing.assert_allclose(found, solve(z, **AOS, backend="numpy", iterations=20, tolerance=0).u, rtol=0, atol=1e-4)


def test_features_on_the_gpu_give_the_same_segmentation_there():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(8, 32, 32)).astype(np.float32)
    features[:4, :, :16] += 3
    features[4:, :, 16:] += 3
    inside, outside = np.array([[4, 4], [20, 8]]), np.array([[6, 28], [25, 20]])
    expected = segment(features, inside, outside).u
    found = segment(torch.from_numpy(features).cuda(), inside, outside)
    assert found.solution.u.is_cuda
    np.testing.assert_allclose(found.u, expected, rtol=0, atol=1e-4)
