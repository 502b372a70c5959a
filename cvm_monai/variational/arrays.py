"""Check the types of the arguments of the public functions: arrays, features, numbers, shapes."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_torch_array

from cvm_monai.errors import CvmError


def as_array(value: Any, name: str) -> np.ndarray:
    """Convert a list of points, or a tensor, to a NumPy array.

    Raises:
        CvmError: rows of different lengths.
    """
    try:
        return np.asarray(value.detach().cpu() if is_torch_array(value) else value)
    except ValueError:
        raise CvmError(f"{name} must be an array, got rows of several lengths") from None


def check_array(value: Any, name: str, *, dimensions: int = 0) -> None:
    """Check that a value is an array of real numbers.

    Raises:
        CvmError: neither a NumPy array nor a torch tensor, or one of another type, or of fewer dimensions.
    """
    if not (is_numpy_array(value) or is_torch_array(value)):
        raise CvmError(f"{name} must be a NumPy array or a torch tensor, got {type(value).__name__}")
    if not array_namespace(value).isdtype(value.dtype, ("real floating", "integral", "bool")):
        raise CvmError(f"{name} must hold real numbers, got dtype {value.dtype}")
    if value.ndim < dimensions:
        raise CvmError(f"{name} must have at least {dimensions} dimensions, got shape {tuple(value.shape)}")


def check_features(value: Any, name: str = "features") -> None:
    """Check that a value is an array of floating type; integers would overflow.

    Raises:
        CvmError: as `check_array`, or whole numbers.
    """
    check_array(value, name)
    if not array_namespace(value).isdtype(value.dtype, "real floating"):
        raise CvmError(f"{name} must be of a floating type, got dtype {value.dtype}")


def check_numbers(**numbers: Any) -> None:
    """Check that every value is a number.

    Raises:
        CvmError: naming the first of them.
    """
    for name, value in numbers.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise CvmError(f"{name} must be a number, got {value!r}")


def check_whole(**numbers: Any) -> None:
    """Check that every value is a whole number.

    Raises:
        CvmError: naming the first of them.
    """
    for name, value in numbers.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise CvmError(f"{name} must be a whole number, got {value!r}")


def check_shape(shape: Any) -> None:
    """Check that a value is a shape (H, W).

    Raises:
        CvmError: another length, or a side that is not a whole number.
    """
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise CvmError(f"shape must be (H, W), got {shape}")
    check_whole(H=shape[0], W=shape[1])
