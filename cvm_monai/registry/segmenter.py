"""The MLflow model that serves a trained network: it maps records to masks.

`Segmenter` checks and decodes each record (`read_record`), segments its image with the steps of the bundle's own
`configs/inference.yaml` (`BundlePipeline`) and encodes the result (`encode_answer`). The model's script,
`model_code.py`, imports `cvm_monai.registry.segmenter.Segmenter`: registered models import it by that name.
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel
from monai.bundle import ConfigParser
from PIL import Image

from cvm_monai.annotations import Annotations, regions_from_labels, write_geojson
from cvm_monai.bundle_files import config_file
from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_folder
from cvm_monai.inference import ReadImaged, SavePredictiond, working_factor
from cvm_monai.inference.write import to_uint8
from cvm_monai.slides import read_image

BUNDLE = "bundle"
"""Name of the artifact that holds the staged bundle."""
CLASSES = "classes.json"
WEIGHTS = "weights.npz"
MOST_PIXELS = 2**28
"""Limit of the working size; above it the um/px of the image must be wrong."""
SEND = "send an (H, W, 3) uint8 array, or a PNG as base64 text"


class WrongRecordError(MlflowException):
    """Invalid record, reported without the request, which MLflow's server would print before the reason."""

    @property
    def message(self) -> str:
        """The message."""
        return self._sentence

    @message.setter
    def message(self, words: str) -> None:
        self._sentence = words.rpartition("\nError: ")[2]


class Segmenter(PythonModel):
    """Segment records {image, mpp?} as the bundle's `inference` does."""

    def load_context(self, context: Any) -> None:
        """Build the network from the staged bundle of an MLflow context."""
        self.load(Path(context.artifacts[BUNDLE]))

    def load(self, folder: Path) -> None:
        """Build the network from the staged bundle's folder."""
        self.pipeline = BundlePipeline(folder)
        self.classes = json.loads((folder / CLASSES).read_text(encoding="utf-8"))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Segment each record, in order; `params` {"polygons": True} adds GeoJSON.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, with the record's number (from 1), the mistake and the remedy.
        """
        del context
        records = model_input.to_dict("records")
        if not records:
            raise WrongRecordError.invalid_parameter_value("there is no record with an 'image': send [{'image': ...}]")
        polygons = bool((params or {}).get("polygons", False))
        return [self._segment(record, number, polygons) for number, record in enumerate(records, start=1)]

    def _segment(self, record: dict[Any, Any], number: int, polygons: bool) -> dict[str, Any]:
        try:
            asked = read_record(record)
            return encode_answer(self.pipeline(asked.image, mpp=asked.mpp), classes=self.classes, polygons=polygons)
        except ValueError as error:
            raise WrongRecordError.invalid_parameter_value(f"record {number}: {error}") from error


@dataclass(frozen=True)
class Record:
    """A checked record: an image (H, W, 3) uint8, and its micrometres per pixel if known."""

    image: np.ndarray
    mpp: float | None


def read_record(record: Mapping[str, Any]) -> Record:
    """Check and decode one record {image, mpp?}.

    Raises:
        CvmError: an invalid record; the message says what to send.
    """
    if "image" not in record or _missing(record["image"]):
        raise CvmError(f"it has no image: {SEND}, as 'image'")
    return Record(_image(record["image"]), _mpp(record.get("mpp")))


def encode_answer(probabilities: np.ndarray, *, classes: Sequence[str], polygons: bool = False) -> dict[str, Any]:
    """Encode {mask, probability, polygons?} of one image as `inference` writes them: PNG, here as base64 text.

    For two classes `mask` is 0 and 255, and `probability` round(255 p) of the target. For more, `mask` holds class
    numbers, and `probability` is a list with one image for each foreground class.

    Args:
        probabilities: (1, H, W), the target's, or (C, H, W).
        classes: names, by class number.
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
    """Encode a uint8 image, (H, W) or (H, W, 3), as PNG in base64 text."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def decode_png(text: str) -> np.ndarray:
    """Decode a PNG in base64 text to its stored pixels; the inverse of `encode_png`."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def _missing(value: Any) -> bool:
    """Whether a value is None, or the NaN of a table's missing entry."""
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
    except ValueError:  # rows of unequal lengths
        raise CvmError(f"its image is not a full array: {SEND}") from None
    if isinstance(value, list) and image.dtype == np.int64 and image.size:
        if image.min() < 0 or image.max() > 255:
            wrong = int(image.min() if image.min() < 0 else image.max())
            raise CvmError(f"its image holds the value {wrong}, outside 0 to 255: {SEND}")
        image = image.astype(np.uint8)  # from JSON: integers only
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise CvmError(f"its image is {image.shape} {image.dtype}: {SEND}")
    return image


def _decode(content: bytes) -> np.ndarray:
    """Decode by the reader of image files, so that pixels agree with those of a segmented file."""
    with temporary_folder() as folder:
        file = folder / "image.png"
        file.write_bytes(content)
        try:
            return read_image(file)
        except ValueError as error:
            reason = str(error).replace(f"{file} ", "it ")
            raise CvmError(f"its image is not a PNG that can be decoded ({reason}): {SEND}") from None


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


class BundlePipeline:
    """Segment as `run inference` does, with transforms, network and windows of `configs/inference.yaml`.

    Only reading and writing files are left out.

    Args:
        folder: a staged bundle: `configs/`, `run.json`, `models/weights.npz`.
        device: where to compute; None: the configuration's choice, a GPU if there is one.

    Raises:
        CvmError: weights that do not fit the network.
    """

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        folder = Path(folder)
        parser = ConfigParser()
        parser.read_config(str(config_file(folder / "configs", "inference")))
        places = {"bundle_root": folder, "output_dir": folder, "ckpt_dir": folder / "models"}
        for key, value in {**places, "ckpt_path": folder / "models" / WEIGHTS}.items():
            parser[key] = str(value)
        if device is not None:
            parser["device"] = device
        content = parser.get_parsed_content
        self.device = torch.device(content("device"))
        self.network, self.inferer = content("predictor"), content("inferer")
        self.scale, self.mpp = content("scale"), content("mpp")
        self._before = _without(content("preprocessing"), ReadImaged)
        self._after = _without(content("postprocessing"), SavePredictiond)

    def __call__(self, image: np.ndarray, *, mpp: float | None = None) -> np.ndarray:
        """Compute probabilities at the image's size: (1, H, W) of the target, or (C, H, W) for more than two classes.

        Args:
            image: (H, W, 3) uint8 RGB.
            mpp: its micrometres per pixel; ignored by a network trained at a `scale` rather than an `mpp`.

        Raises:
            CvmError: a missing mpp that the network needs, or one that would make the image too large.
        """
        if self.mpp is not None and mpp is None:
            raise CvmError(f"it has no mpp, and the network was trained at {self.mpp:g} um/px: send the image's")
        factor = working_factor(scale=self.scale, mpp=self.mpp, image_mpp=mpp, case_id="")
        if image.shape[0] * image.shape[1] * factor**2 > MOST_PIXELS:
            raise CvmError(
                f"{image.shape[1]} x {image.shape[0]} px would become {factor:g} times as wide: check mpp, or cut it"
            )
        item: dict[Any, Any] = {"image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))}
        item = _apply(self._before, item | ({} if mpp is None else {"mpp": mpp}))
        with torch.inference_mode():
            logits = self.inferer(item["image"][None].to(self.device), self.network)
        return np.asarray(_apply(self._after, {**item, "pred": logits[0]})["pred"])


def _without(chain: Any, left_out: type) -> list[Any]:
    return [step for step in chain.transforms if not isinstance(step, left_out)]


def _apply(steps: list[Any], item: dict[Any, Any]) -> dict[Any, Any]:
    for step in steps:
        item = step(item)
    return item
