"""Read and write the stain target beside the weights that were trained with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.data.stain.macenko import StainEstimate
from cvm_monai.data.stain.reinhard import ColourMoments
from cvm_monai.data.stain.target import StainTarget, check_method
from cvm_monai.errors import CvmError
from cvm_monai.files import read_json, shown, write_json
from cvm_monai.knobs import StainNormalisation

TARGET_FILE = "stain.json"
"""The file's name, in the folder of `model.pt`."""

KINDS: Mapping[str, tuple[type[StainEstimate] | type[ColourMoments], Mapping[str, tuple[int, ...]]]] = {
    "macenko": (StainEstimate, {"vectors": (2, 3), "strongest": (2,)}),
    "reinhard": (ColourMoments, {"mean": (3,), "spread": (3,)}),
}
"""For each method: the class of the reference, and the shape of each of its arrays."""


def write_target(target: StainTarget, path: Path) -> None:
    """Write `{"method": ..., "images": ..., "left_out": ..., <arrays>}`, aside and renamed; the folder is made."""
    _, shapes = KINDS[target.method]
    arrays = {name: getattr(target.reference, name).tolist() for name in shapes}
    content = {"method": target.method, "images": target.images, "left_out": target.left_out, **arrays}
    write_json(path, content)


def read_target(path: Path) -> StainTarget:
    """Read what `write_target` wrote.

    Raises:
        CvmError: no such file, or one that holds something else.
    """
    content = read_json(path)
    try:
        kind, shapes = KINDS[content["method"]]
        arrays = {name: _array(content[name], shape) for name, shape in shapes.items()}
        return StainTarget(content["method"], kind(**arrays), int(content["images"]), int(content["left_out"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CvmError(f"{path} holds no stain target ({shown(error)}): train again, or restore it") from None


def stored_method(*, folder: str | Path) -> StainNormalisation:
    """Return the stain normalisation of the network in a folder, from the file beside its weights; `none` without one.

    Raises:
        CvmError: a damaged file.
    """
    path = Path(folder) / TARGET_FILE
    return read_target(path).method if path.is_file() else "none"


def stored_target(*, folder: str | Path, method: StainNormalisation) -> StainTarget | None:
    """Read the stain target of a trained network; None if it was trained without.

    Args:
        folder: of `model.pt`.
        method: as the training recorded it.

    Raises:
        CvmError: an unknown method, or a target that is missing, damaged, or another method's.
    """
    path = Path(folder) / TARGET_FILE
    check_method(method)
    if method == "none":
        return None
    if not path.is_file():
        raise CvmError(
            f"the network was trained with --stain_normalisation {method}, but {path} is missing: copy it from the "
            "training's models folder, or train again"
        )
    target = read_target(path)
    if target.method != method:
        raise CvmError(f"{path} is a target of {target.method}, the network was trained with {method}: train again")
    return target


def _array(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise CvmError(f"{array.shape} numbers where {shape} are expected")
    return array
