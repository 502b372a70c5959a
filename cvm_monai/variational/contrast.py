"""Correlation maps (Eq. 4) and contrast maps (Eq. 5) of a feature map, for NumPy arrays and torch tensors alike."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import get_args

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from cvm_monai.errors import CvmError
from cvm_monai.knobs import DEFAULTS, Centre
from cvm_monai.variational.arrays import as_array, check_array, check_features, check_numbers
from cvm_monai.variational.chan_vese import Array


def normalise(maps: Array) -> Array:
    """Stretch each map of (..., H, W) to [0, 1] by its own minimum and maximum (the N of Eqs. 5 and 7).

    A constant map becomes zeros, never NaN.
    """
    check_array(maps, "maps", dimensions=2)
    xp = array_namespace(maps)
    low = xp.min(maps, axis=(-2, -1), keepdims=True)
    span = xp.max(maps, axis=(-2, -1), keepdims=True) - low
    constant = span <= 0
    return (maps - low) * ~constant / (span + constant)


def centred(
    features: Array, centre: Centre = "none", *, mean: Array | None = None, parts: Sequence[int] | None = None
) -> Array:
    """Subtract a mean from the feature vectors: f_x - m, so that the cosine of Eq. 4 separates tissue kinds.

    m = 0 for `none`; mean_x f_x for `image`; M, the mean over the data set, for `dataset`; (mean_x f_x + M) / 2 for
    `both`. Features after a ReLU are never negative, so that the cosines of raw ones hardly differ; subtracting the
    image's mean removes what all its pixels share, above all the stain. Not in the paper, which uses `none`.

    Args:
        features: (C, H, W).
        centre: see above.
        mean: (C,), M; for `dataset` and `both`.
        parts: number of channels of each stage, where features of several strides were concatenated: each part is
            scaled to length one after centring, so that no stage outweighs the others. None: one part, not scaled.

    Raises:
        CvmError: features of another rank, an unknown choice, M that is missing or does not fit, or parts that do
            not add up to C.
    """
    if features.ndim != 3:
        raise CvmError(f"features must have shape (C, H, W), got {tuple(features.shape)}")
    if centre not in get_args(Centre):
        raise CvmError(f"centre must be one of {', '.join(get_args(Centre))}, got {centre!r}")
    channels = int(features.shape[0])
    if parts is not None and sum(parts) != channels:
        raise CvmError(f"parts must add up to the {channels} channels of the features, got {list(parts)}")
    if centre in ("dataset", "both") and (mean is None or tuple(mean.shape) != (channels,)):
        shape = None if mean is None else tuple(mean.shape)
        raise CvmError(f"centre {centre} needs the data set's mean, of shape ({channels},), got {shape}")
    if centre != "none":
        own = features.reshape(channels, -1).mean(1)
        chosen: Array = own if centre == "image" else mean if centre == "dataset" else (own + mean) / 2
        features = features - chosen[:, None, None]
    if parts is None:
        return features
    xp, ends = array_namespace(features), np.cumsum(parts).tolist()
    return xp.concat([_unit(features[end - size : end]) for size, end in zip(parts, ends, strict=True)])


def _unit(features: Array) -> Array:
    """Scale every vector of (C, H, W) to length one; a zero vector stays zero."""
    norm = (features * features).sum(0) ** 0.5
    return features / (norm + (norm == 0))


def correlation_maps(features: Array, points: Array) -> Array:
    """Compute the cosine similarity between the feature vector at each point and every other one (Eq. 4).

    Args:
        features: (C, H, W).
        points: (P, 2) integer (row, column).

    Returns:
        (P, H, W) in [-1, 1]; where a feature vector is zero its correlation is 0.

    Raises:
        CvmError: features of another rank or that are not finite, or a point that lies outside the map.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> features = np.zeros((2, 4, 4))
        >>> features[0, :, :2], features[1, :, 2:] = 1, 1
        >>> cvm.correlation_maps(features, np.array([[1, 0]]))[0, 0].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    check_features(features)
    checked = check_points(points, tuple(features.shape), name="points")
    unit = unit_vectors(features)
    _, height, width = features.shape
    return (unit[:, checked[:, 0] * width + checked[:, 1]].T @ unit).reshape(len(checked), height, width)


def unit_vectors(features: Array) -> Array:
    """Scale the feature vectors of (C, H, W) to length one, (C, H * W); a zero vector stays zero.

    Raises:
        CvmError: features that are not finite.
    """
    finite = array_namespace(features).isfinite(features)
    if not finite.all():
        raise CvmError(f"features must be finite, got {int((~finite).sum())} NaN or infinite values")
    return _unit(features.reshape(features.shape[0], -1))


def contrast_maps(features: Array, in_points: Array, out_points: Array, *, eta: float = DEFAULTS["eta"]) -> Array:
    """Compute the mean contrast map z_p = (1/|Q|) sum_q N(ReLU(S_p - eta S_q)^2) of each in-target point (Eqs. 5, 6).

    Args:
        features: (C, H, W).
        in_points: (P, 2) integer (row, column) of in-target points.
        out_points: (Q, 2) integer (row, column) of out-of-target points.
        eta: how much of the correlation with an out-of-target point is subtracted, in [0, 1]; raising it suppresses the
            background (and novel tissue) more, and parts of the target too. It is applied once for each pair.

    Returns:
        (P, H, W) in [0, 1].

    Raises:
        CvmError: eta outside [0, 1], no point of a class, a point that lies outside the map, or features that are not
            finite.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> features = np.zeros((2, 4, 4))
        >>> features[0, :, :2], features[1, :, 2:] = 1, 1
        >>> cvm.contrast_maps(features, np.array([[1, 0]]), np.array([[2, 3]]))[0, 0].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    check_features(features)
    check_numbers(eta=eta)
    if not 0 <= eta <= 1:
        raise CvmError(f"eta must lie in [0, 1], got {eta!r}")
    shape = tuple(features.shape)
    points = [check_points(in_points, shape, name="in_points"), check_points(out_points, shape, name="out_points")]
    maps = correlation_maps(features, np.concatenate(points))  # both classes in one call: vectors are scaled once
    return mean_contrast(maps[: len(points[0])], maps[len(points[0]) :], eta=eta)


def mean_contrast(inside: Array, outside: Array, *, eta: float) -> Array:
    """Compute (1/|Q|) sum_q N(ReLU(S_p - eta S_q)^2) from correlation maps S_p (P, H, W) and S_q (Q, H, W)."""
    if _compiles(inside):
        from cvm_monai.variational import compiled_contrast

        parts = (np.ascontiguousarray(maps).reshape(len(maps), -1) for maps in (inside, outside))
        found = compiled_contrast.mean_contrast(*parts, eta=eta).reshape(inside.shape)
        return array_namespace(inside).asarray(found)
    total = inside * 0
    for correlation in outside:
        total = total + normalise((inside - eta * correlation).clip(min=0) ** 2)
    return total / len(outside)


def _compiles(maps: Array) -> bool:
    """Whether numba's loops can take the maps: single or double precision on a CPU, and no gradient asked for."""
    if is_torch_array(maps) and (maps.device.type != "cpu" or maps.requires_grad):
        return False
    xp = array_namespace(maps)
    return maps.dtype in (xp.float32, xp.float64) and find_spec("numba") is not None


def check_points(points: Array, shape: tuple[int, ...], *, name: str) -> np.ndarray:
    """Return the points as an (N, 2) int64 array, or raise CvmError saying which of them does not fit the map."""
    if len(shape) != 3:
        raise CvmError(f"features must have shape (C, H, W), got {shape}")
    checked = as_array(points, name)
    if checked.ndim != 2 or checked.shape[1] != 2 or len(checked) == 0:
        raise CvmError(f"{name} must be a non-empty (N, 2) array of (row, column), got shape {checked.shape}")
    if not np.issubdtype(checked.dtype, np.integer):
        raise CvmError(f"{name} must hold integers (row, column), got dtype {checked.dtype}")
    outside = (checked < 0).any(1) | (checked >= np.asarray(shape[1:])).any(1)
    if outside.any():
        raise CvmError(f"{name} lie outside the {shape[1]}x{shape[2]} map: {checked[outside].tolist()}")
    return checked.astype(np.int64)
