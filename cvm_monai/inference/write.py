"""Write predictions: a probability map and a mask, both at the image's own size.

| format  | files                                            | probability                          | mask           |
|---------|--------------------------------------------------|--------------------------------------|----------------|
| `png`   | `<case>_probability.png`, `<case>_mask.png`       | uint8, round(255 p)                  | 0 and 255      |
| `tiff`  | `<case>_probability.tif`, `<case>_mask.tif`       | uint8, round(255 p), or float32, p   | 0 and 255      |
| `nifti` | `<case>_probability.nii.gz`, `<case>_mask.nii.gz` | uint8, round(255 p), or float32, p   | labels 0 and 1 |

In the masks of PNG and TIFF the target is 255, which viewers show as white; this project's mask reader takes 0 as
background and anything else as target, so that it can read them back. NIfTI holds labels; its array axes are (x, y), as
MONAI's readers give images, with the identity as affine.

For more than two classes the mask holds class numbers in every format. Probabilities are written on request only, one
file for each foreground class c: `<case>_probability_c`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import nibabel
import numpy as np
import tifffile
from PIL import Image

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing
from cvm_monai.knobs import OutputFormat, ProbabilityType

SUFFIXES: dict[OutputFormat, str] = {"png": ".png", "tiff": ".tif", "nifti": ".nii.gz"}

TILED_FROM = 1024
"""A TIFF with a longer side than this is tiled, so that viewers need not decode all of it."""
TILE = (256, 256)


def check_output(output_format: str, probability_type: str) -> None:
    """Refuse an unknown format or type of number, and floating point numbers in PNG.

    Raises:
        CvmError: an unknown format or type, or a pair that does not fit.
    """
    for name, value, choices in (
        ("output_format", output_format, get_args(OutputFormat)),
        ("probability_type", probability_type, get_args(ProbabilityType)),
    ):
        if value not in choices:
            raise CvmError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if output_format == "png" and probability_type == "float32":
        raise CvmError("a PNG cannot hold float32: choose --output_format tiff or nifti, or --probability_type uint8")


def prediction_paths(folder: str | Path, case_id: str, *, output_format: OutputFormat) -> tuple[Path, Path]:
    """Return the paths of a case's probability and mask."""
    suffix = SUFFIXES[output_format]
    return Path(folder) / f"{case_id}_probability{suffix}", Path(folder) / f"{case_id}_mask{suffix}"


def write_prediction(
    folder: str | Path,
    case_id: str,
    probability: np.ndarray,
    *,
    output_format: OutputFormat = "png",
    probability_type: ProbabilityType = "uint8",
    mpp: float | None = None,
) -> np.ndarray:
    """Write a probability map (H, W) in [0, 1] and its mask p > 0.5; returns the mask, (H, W) bool.

    Files are replaced atomically. The module's table lists their contents.

    Args:
        folder: created where it is missing.
        mpp: micrometres per pixel, written into TIFF.

    Raises:
        CvmError: an unknown format, or one that cannot hold the numbers.
    """
    check_output(output_format, probability_type)
    mask = probability > 0.5
    label = mask.astype(np.uint8) * np.uint8(1 if output_format == "nifti" else 255)
    values = probability.astype(np.float32) if probability_type == "float32" else to_uint8(probability)
    Path(folder).mkdir(parents=True, exist_ok=True)
    probability_path, mask_path = prediction_paths(folder, case_id, output_format=output_format)
    _WRITERS[output_format](probability_path, values, mpp)
    _WRITERS[output_format](mask_path, label, mpp)
    return mask


def write_classes(
    folder: str | Path,
    case_id: str,
    probabilities: np.ndarray,
    *,
    with_probabilities: bool = False,
    output_format: OutputFormat = "png",
    probability_type: ProbabilityType = "uint8",
    mpp: float | None = None,
) -> np.ndarray:
    """Write the label image of (C, H, W) probabilities, their argmax over the classes; returns it, uint8.

    Args:
        with_probabilities: also write the probability of each foreground class.
        folder, output_format, probability_type, mpp: as in `write_prediction`.

    Raises:
        CvmError: an unknown format, or one that cannot hold the numbers.
    """
    check_output(output_format, probability_type)
    labels: np.ndarray = probabilities.argmax(axis=0).astype(np.uint8)
    Path(folder).mkdir(parents=True, exist_ok=True)
    probability_path, mask_path = prediction_paths(folder, case_id, output_format=output_format)
    for number, probability in enumerate(probabilities[1:] if with_probabilities else (), start=1):
        values = probability.astype(np.float32) if probability_type == "float32" else to_uint8(probability)
        name = probability_path.name.replace("_probability.", f"_probability_{number}.")
        _WRITERS[output_format](probability_path.with_name(name), values, mpp)
    _WRITERS[output_format](mask_path, labels, mpp)
    return labels


def to_uint8(probability: np.ndarray) -> np.ndarray:
    """round(255 p)."""
    return np.rint(probability * 255).astype(np.uint8)


def _write_png(path: Path, pixels: np.ndarray, mpp: float | None) -> None:
    del mpp
    with replacing(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


def _write_tiff(path: Path, pixels: np.ndarray, mpp: float | None) -> None:
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack", "metadata": None}
    if max(pixels.shape) > TILED_FROM:
        options["tile"] = TILE
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with replacing(path) as aside:
        tifffile.imwrite(aside, pixels, **options)


def _write_nifti(path: Path, pixels: np.ndarray, mpp: float | None) -> None:
    del mpp  # the affine stays the identity, as that of a PNG or JPEG loaded by MONAI
    with replacing(path) as aside:
        nibabel.save(nibabel.Nifti1Image(pixels.T, np.eye(4)), aside)


_WRITERS: dict[OutputFormat, Callable[[Path, np.ndarray, float | None], None]] = {
    "png": _write_png,
    "tiff": _write_tiff,
    "nifti": _write_nifti,
}
