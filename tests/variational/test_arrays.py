"""What is no array, or no number, is refused by its name before anything is computed."""

import numpy as np
import pytest
import torch

from cvm_monai.variational import (
    aos_step,
    contrast_maps,
    correlation_maps,
    euclidean_distance,
    geodesic_distance,
    normalise,
    segment,
    solve,
)

RNG = np.random.default_rng(0)
FEATURES, Z = RNG.random((4, 8, 8)), RNG.random((8, 8))
IN, OUT = np.array([[1, 1]]), np.array([[5, 5]])
LIST = "must be a NumPy array or a torch tensor, got list"


@pytest.mark.parametrize("call, sentence", [
    (lambda: contrast_maps(FEATURES.tolist(), IN, OUT), f"^features {LIST}"),
    (lambda: correlation_maps(FEATURES.tolist(), IN), f"^features {LIST}"),
    (lambda: segment(FEATURES.tolist(), IN, OUT), f"^features {LIST}"),
    (lambda: segment(None, IN, OUT), "^features must be a NumPy array or a torch tensor, got NoneType"),
    (lambda: segment("features", IN, OUT), "^features must be a NumPy array or a torch tensor, got str"),
    (lambda: segment(FEATURES.astype(str), IN, OUT), "^features must hold real numbers, got dtype <U"),
    (lambda: segment((FEATURES * 255).astype(np.uint8), IN, OUT), "^features must be of a floating type, got dtype u"),
    (lambda: segment(torch.ones(4, 8, 8, dtype=torch.int64), IN, OUT), "^features must be of a floating type"),
    (lambda: contrast_maps(FEATURES, IN, OUT, eta="high"), "^eta must be a number, got 'high'"),
    (lambda: contrast_maps(FEATURES, IN, OUT, eta=None), "^eta must be a number, got None"),
    (lambda: segment(FEATURES, IN, OUT, eta=[0.5]), r"^eta must be a number, got \[0.5\]"),
    (lambda: segment(FEATURES, IN, [[1, 2], [3]]), "^out_points must be an array, got rows of several lengths"),
    (lambda: segment(FEATURES, "here", OUT), r"^in_points must be a non-empty \(N, 2\) array"),
    (lambda: segment(FEATURES, IN, OUT, lam="much"), "^lam must be a number, got 'much'"),
    (lambda: solve(Z.tolist()), f"^z {LIST}"),
    (lambda: solve(Z, tolerance="low"), "^tolerance must be a number, got 'low'"),
    (lambda: solve(Z, tau=True), "^tau must be a number, got True"),
    (lambda: solve(Z, iterations="5"), "^iterations must be a whole number of at least 1, got '5'"),
    (lambda: solve(Z, workers="all"), "^workers must be a whole number, got 'all'"),
    (lambda: solve(Z, workers=1.5), "^workers must be a whole number, got 1.5"),
    (lambda: solve(Z, fitting="far"), "^fitting must hold real numbers, got dtype <U"),
    (lambda: solve(Z, device="nowhere"), "^device 'nowhere' cannot be used: "),
    (lambda: normalise([1, 2]), f"^maps {LIST}"),
    (lambda: normalise(np.ones(3)), r"^maps must have at least 2 dimensions, got shape \(3,\)"),
    (lambda: aos_step(Z.tolist(), Z, Z, tau=0.1, beta=1e-6, alpha=1.0), f"^u {LIST}"),
    (lambda: aos_step(Z, Z, Z, tau="small", beta=1e-6, alpha=1.0), "^tau must be a number, got 'small'"),
    (lambda: aos_step(Z, Z, Z, tau=0.1, beta=1e-6, alpha="one"), "^alpha must hold real numbers"),
    (lambda: euclidean_distance(IN, shape=8), r"^shape must be \(H, W\), got 8"),
    (lambda: euclidean_distance(IN, shape=("a", 8)), "^H must be a whole number, got 'a'"),
    (lambda: geodesic_distance("z", IN), "^z must hold real numbers, got dtype <U"),
    (lambda: geodesic_distance(Z, IN, floor="low"), "^floor must be a number, got 'low'"),
])  # fmt: skip
def test_what_is_no_array_or_number_is_refused_by_its_name(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_points_may_be_lists_and_numbers_may_be_numpys():
    expected = contrast_maps(FEATURES, IN, OUT, eta=0.5)
    np.testing.assert_array_equal(contrast_maps(FEATURES, IN.tolist(), OUT.tolist(), eta=np.float64(0.5)), expected)
    found = contrast_maps(torch.from_numpy(FEATURES), torch.from_numpy(IN), torch.from_numpy(OUT), eta=0.5)
    np.testing.assert_allclose(found.numpy(), expected)
    assert solve(Z, lam=np.float32(2), fitting=np.zeros((8, 8), np.int64)).u.shape == (8, 8)
