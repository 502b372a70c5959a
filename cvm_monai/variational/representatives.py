"""A few vectors that stand for the feature vectors of many points of a class, so that time does not grow with them.

A contrast map is made for every pair of an in-target and an out-of-target point. Thousands of points of a class speak
for a few kinds of tissue; the groups below are of equal size, so that their means weigh alike in a mean over points.
"""

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from cvm_monai.variational.chan_vese import Array

MOST = 32
"""Vectors of a class up to which every point stands for itself, and the number of groups beyond."""


def representatives(vectors: Array, *, most: int = MOST) -> Array:
    """Replace more than `most` vectors (C, P) by the means (C, K), K <= most, of groups of alike vectors.

    The vectors are halved at the median of their first principal component, and the halves again, until there are
    `most` groups; nothing is random. Groups differ in size by a factor of at most 2, less where vectors are many.

    Args:
        vectors: of length one, or zero.
        most: a power of 2; raising it keeps more kinds of tissue apart and costs time quadratically.

    Returns:
        Vectors of length one (zero where a group's mean is zero); the given ones if there are at most `most`.
    """
    if vectors.shape[1] <= most:
        return vectors
    host = np.asarray(vectors.detach().cpu() if is_torch_array(vectors) else vectors, dtype=np.float64)
    groups = [np.arange(host.shape[1])]
    while len(groups) < most:
        groups = [half for group in groups for half in _halves(host, group)]
    means = np.stack([host[:, group].mean(axis=1) for group in groups], axis=1)
    length = np.linalg.norm(means, axis=0)
    xp = array_namespace(vectors)
    place = {"device": vectors.device} if is_torch_array(vectors) else {}
    return xp.asarray(means / (length + (length == 0)), dtype=vectors.dtype, **place)


def _halves(vectors: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices of some vectors in two at the median along the direction in which they differ most."""
    chosen = vectors[:, group] - vectors[:, group].mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(chosen @ chosen.T)
    order = np.argsort(directions[:, -1] @ chosen, kind="stable")
    middle = len(group) // 2
    return group[order[:middle]], group[order[middle:]]
