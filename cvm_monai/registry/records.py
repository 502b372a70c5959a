"""What a served model is asked and what it answers: images as arrays or base64 PNG in, masks and polygons out."""

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cvm_monai.annotations import Annotations, regions_from_labels, write_geojson
from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_folder
from cvm_monai.inference.write import to_uint8
from cvm_monai.slides import read_image

SEND = "send an (H, W, 3) uint8 array, or a PNG as base64 text"


@dataclass(frozen=True)
class Asked:
    """One record, checked: an image (H, W, 3) uint8, and its micrometres per pixel where they are known."""

    image: np.ndarray
    mpp: float | None


def read_record(record: Mapping[str, Any]) -> Asked:
    """Check and decode one record {image, mpp?}.

    Raises:
        CvmError: what is wrong with it, and what to send.
    """
    if "image" not in record or _missing(record["image"]):
        raise CvmError(f"it has no image: {SEND}, as 'image'")
    return Asked(_image(record["image"]), _mpp(record.get("mpp")))


def answer(probabilities: np.ndarray, *, classes: Sequence[str], polygons: bool = False) -> dict[str, Any]:
    """{mask, probability, polygons?} of one image, as `inference` writes them: PNG, here as base64 text.

    Of two classes `mask` is 0 and 255, and `probability` round(255 p) of the target. Of more, `mask` holds their
    numbers, and `probability` is a list, one for each foreground class.

    Args:
        probabilities: (1, H, W), the target's, or (C, H, W).
        classes: names, by number.
        polygons: add a GeoJSON FeatureCollection of the mask's regions, in pixels of the image.
    """
    if len(probabilities) == 1:
        labels = (probabilities[0] > 0.5).astype(np.uint8)
        mask = labels * np.uint8(255)
        probability: str | list[str] = encode_png(to_uint8(probabilities[0]))
    else:
        labels = mask = probabilities.argmax(axis=0).astype(np.uint8)
        probability = [encode_png(to_uint8(values)) for values in probabilities[1:]]
    found: dict[str, Any] = {"mask": encode_png(mask), "probability": probability}
    if polygons:
        found["polygons"] = _geojson(labels, classes)
    return found


def encode_png(pixels: np.ndarray) -> str:
    """A uint8 image, (H, W) or (H, W, 3), as PNG in base64 text."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def decode_png(text: str) -> np.ndarray:
    """The pixels of a PNG in base64 text, as they are stored: what `encode_png` was given."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def _missing(value: Any) -> bool:
    """None, or the NaN by which a table says that a record lacks an entry."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _image(value: Any) -> np.ndarray:
    if isinstance(value, str):
        try:
            return _decode(base64.b64decode(value, validate=True))
        except binascii.Error:
            raise CvmError(f"its image is text but not base64: {SEND}") from None
    if isinstance(value, bytes):
        return _decode(value)
    try:
        image = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        raise CvmError(f"its image is not a full array: {SEND}") from None
    if isinstance(value, list) and image.dtype == np.int64 and image.size:
        if image.min() < 0 or image.max() > 255:
            wrong = int(image.min() if image.min() < 0 else image.max())
            raise CvmError(f"its image holds the value {wrong}, outside 0 to 255: {SEND}")
        image = image.astype(np.uint8)  # JSON knows whole numbers only
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise CvmError(f"its image is {image.shape} {image.dtype}: {SEND}")
    return image


def _decode(content: bytes) -> np.ndarray:
    """By the reader of image files, so that a pixel is what it is when a file is segmented."""
    with temporary_folder() as folder:
        file = folder / "image.png"
        file.write_bytes(content)
        try:
            return read_image(file)
        except ValueError as error:
            reason = str(error).replace(f"{file} ", "it ")
            raise CvmError(f"its image is no PNG that can be decoded ({reason}): {SEND}") from None


def _mpp(value: Any) -> float | None:
    if _missing(value):
        return None
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:
        raise CvmError(f"its mpp is {value!r}: send micrometres per pixel, a number above 0, or leave it out")
    return float(value)


def _geojson(labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    with temporary_folder() as folder:
        file = folder / "regions.geojson"
        write_geojson(file, Annotations(regions=regions_from_labels(labels)), names=classes)
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
