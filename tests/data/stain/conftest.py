"""Images that are made of two stains, whose vectors and amounts are known."""

import numpy as np
import pytest

HAEMATOXYLIN, EOSIN = (0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)


def tissue(*, seed=0, vectors=(HAEMATOXYLIN, EOSIN), factors=(1.0, 1.0), light=240.0, side=96):
    """(side, side, 3) uint8 of seeded amounts times `factors`; a quarter is glass, some pixels hold one stain alone."""
    rng = np.random.default_rng(seed)
    amounts = np.stack([rng.gamma(1.0, 0.4, (side, side)), rng.gamma(2.0, 0.25, (side, side))], axis=-1)
    amounts[rng.random((side, side)) < 0.1, 0] = 0
    amounts[rng.random((side, side)) < 0.1, 1] = 0
    amounts[: side // 2, : side // 2] = 0
    density = (amounts * factors) @ np.asarray(vectors)
    return np.rint(light * np.exp(-density)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def stains():
    """(2, 3) the vectors of `tissue`, each of length one."""
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
