"""Two classifiers fitted to the points of one image, as evidence beside its contrast maps. Not in the paper."""

import numpy as np
from array_api_compat import array_namespace

from cvm_monai.errors import CvmError
from cvm_monai.variational.chan_vese import Array
from cvm_monai.variational.contrast import check_points, correlation_maps


def nearest_point_vote(features: Array, in_points: Array, out_points: Array, *, sharpness: float = 15.0) -> Array:
    """Compute the soft vote of the points by correlation: mean_p e^(k S_p) / (mean_p e^(k S_p) + mean_q e^(k S_q)).

    The points most similar to a pixel dominate its vote, so that a class may hold tissue of several kinds; for large k
    a pixel gets the class of its nearest point by Eq. 4's cosine.

    Args:
        features: (C, H, W); centre them first where cosines of raw features hardly differ (`centred`).
        in_points: (P, 2) integer (row, column) of in-target points.
        out_points: (Q, 2) likewise, of out-of-target points.
        sharpness: k; raising it gives more weight to the nearest point; 5 to 30.

    Returns:
        (H, W) in [0, 1]; above 0.5 is the target.

    Raises:
        CvmError: sharpness not above 0, or as `contrast_maps`.
    """
    if not sharpness > 0:
        raise CvmError(f"sharpness must be a number greater than 0, got {sharpness!r}")
    near, far = (correlation_maps(features, points) for points in _checked(features, in_points, out_points))
    return vote(near, far, sharpness)


def vote(inside: Array, outside: Array, sharpness: float = 15.0) -> Array:
    """Compute the vote of `nearest_point_vote` from the correlation maps (P, H, W) and (Q, H, W) of both classes."""
    xp = array_namespace(inside)
    votes = [xp.mean(xp.exp(sharpness * (maps - 1)), axis=0) for maps in (inside, outside)]
    total = votes[0] + votes[1]
    return (votes[0] + 0.5 * (total == 0)) / (total + (total == 0))


def linear_discriminant(
    features: Array, in_points: Array, out_points: Array, *, ridge: float = 1.0, prior: Array | None = None
) -> Array:
    """Fit a regularised least-squares discriminant to the points: w minimises sum (y - w f)^2 + ridge |w|^2, y = +-1.

    Each channel is centred and scaled to standard deviation one over the image, and the vectors are divided by sqrt(C).
    Of the primal and the dual problem, which have the same solution, that with fewer unknowns is solved, channels or
    points (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, Section 3.4).

    Args:
        features: (C, H, W).
        in_points, out_points: as for `nearest_point_vote`.
        prior: (H, W) in [0, 1], a probability known beforehand (a network's). The discriminant is then fitted to the
            residual at the points, y - (2 prior - 1), and added to the prior. None: 0.5 everywhere.
        ridge: raising it moves w towards the difference of the class means; lowering it fits every point; 0.1 to 10.

    Returns:
        (H, W) in [0, 1]: (1 + w f) / 2, clipped; 0.5 is the decision boundary.

    Raises:
        CvmError: ridge not above 0, or as `contrast_maps`.
    """
    if not ridge > 0:
        raise CvmError(f"ridge must be a number greater than 0, got {ridge!r}")
    xp = array_namespace(features)
    inside, outside = _checked(features, in_points, out_points)
    channels, height, width = features.shape
    flat = features.reshape(channels, height * width)
    flat = flat - xp.mean(flat, axis=1, keepdims=True)
    spread = xp.mean(flat * flat, axis=1, keepdims=True) ** 0.5
    flat = flat / ((spread + (spread == 0)) * channels**0.5)
    points = np.concatenate([inside, outside])
    samples = flat[:, points[:, 0] * width + points[:, 1]]
    signs = np.repeat([1.0, -1.0], [len(inside), len(outside)])
    target = xp.asarray(signs, dtype=flat.dtype, device=flat.device)
    before = xp.zeros_like(flat[0]) if prior is None else 2 * prior.reshape(height * width) - 1
    target = target - before[points[:, 0] * width + points[:, 1]]
    weights = _ridge_weights(samples, target[:, None], ridge=ridge)
    score = (before + weights[:, 0] @ flat).reshape(height, width)
    return ((1 + score) / 2).clip(min=0, max=1)


def _ridge_weights(samples: Array, target: Array, *, ridge: float) -> Array:
    """Compute w (C, 1) that minimises |samples^T w - target|^2 + ridge |w|^2, samples (C, P)."""
    xp = array_namespace(samples)
    channels, count = samples.shape
    regular = ridge * xp.eye(min(channels, count), dtype=samples.dtype, device=samples.device)
    if count > channels:
        return xp.linalg.solve(samples @ samples.T + regular, samples @ target)
    return samples @ xp.linalg.solve(samples.T @ samples + regular, target)


def _checked(features: Array, in_points: Array, out_points: Array) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(features.shape)
    return check_points(in_points, shape, name="in_points"), check_points(out_points, shape, name="out_points")
