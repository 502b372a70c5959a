"""MONAI dictionary transforms around the network: an image in, its probability and mask out."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from cvm_monai.data.stain import StainTarget
from cvm_monai.engines.scoring import full_probabilities, full_probability
from cvm_monai.inference.predict import network_input, working_factor
from cvm_monai.inference.write import check_output, write_classes, write_prediction
from cvm_monai.knobs import OutputFormat, ProbabilityType
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.slides import read_picture

Item = dict[Hashable, Any]

logger = logging.getLogger(__name__)


class ReadImaged(Transform):
    """Read a record's file `image` as uint8 (3, H, W); the rest of the record stays, but for what is None."""

    def __call__(self, record: Mapping[Hashable, Any]) -> Item:
        known = {key: value for key, value in record.items() if value is not None}
        picture = read_picture(record["image"])
        for sentence in picture.warnings:
            logger.warning("%s", sentence)
        return {**known, "image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture.pixels, -1, 0)))}


class PrepareImaged(Transform):
    """Resample and normalise `image`, uint8 (3, H, W), to the network's float32 (3, h, w); adds `full_shape` (H, W).

    Args:
        scale: working size / image size, as in the training; ignored where `mpp` is given.
        mpp: micrometres per pixel that the network was trained at; the record must then have its own `mpp`.
        stain: what the training normalised stains to; None: it did not.
        image_mean: of the training's normalisation, for intensities in [0, 1].
        image_std: likewise.
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        mpp: float | None = None,
        stain: StainTarget | None = None,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.scale, self.mpp, self.stain = scale, mpp, stain
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        image = np.moveaxis(np.asarray(item["image"]), 0, -1)
        factor = working_factor(
            scale=self.scale, mpp=self.mpp, image_mpp=item.get("mpp"), case_id=str(item.get("case_id"))
        )
        prepared = network_input(
            image, scale=factor, stain=self.stain, image_mean=self.image_mean, image_std=self.image_std
        )
        return {**item, "image": prepared, "full_shape": (image.shape[0], image.shape[1])}


class ToProbabilityd(Transform):
    """Turn `pred`, logits (C, h, w), into probabilities at the image's own `full_shape`.

    (1, H, W), the target's, where there are two classes; (C, H, W) where there are more.
    """

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        shape = tuple(int(side) for side in item["full_shape"])
        if len(item["pred"]) > 2:
            return {**item, "pred": torch.from_numpy(full_probabilities(item["pred"], shape))}
        return {**item, "pred": torch.from_numpy(full_probability(item["pred"], shape))[None]}


class SavePredictiond(Transform):
    """Write `pred`, the probability (1, H, W) of a case; adds `mask` uint8 (1, H, W), 1 where p > 0.5.

    Of more than two classes `pred` is (C, H, W), and `mask` the number of the likeliest class.

    Args:
        folder: `prediction/` of the output folder.
        output_format: `png`, `tiff` or `nifti`; see `cvm_monai.inference.write`.
        probability_type: `uint8` for round(255 p), `float32` for p itself (not in PNG).
        class_probabilities: of more than two classes, write the probability of each foreground class beside the mask.

    Raises:
        CvmError: an unknown format, or one that cannot hold the numbers.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        output_format: OutputFormat = "png",
        probability_type: ProbabilityType = "uint8",
        class_probabilities: bool = False,
    ) -> None:
        check_output(output_format, probability_type)
        self.folder = Path(folder)
        self.output_format, self.probability_type = output_format, probability_type
        self.class_probabilities = class_probabilities

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        mpp, probability = item.get("mpp"), np.asarray(item["pred"])
        options: dict[str, Any] = {
            "output_format": self.output_format,
            "probability_type": self.probability_type,
            "mpp": None if mpp is None else float(mpp),
        }
        if len(probability) > 1:
            mask = write_classes(
                self.folder,
                str(item["case_id"]),
                probability,
                with_probabilities=self.class_probabilities,
                **options,
            )
        else:
            mask = write_prediction(self.folder, str(item["case_id"]), probability[0], **options)
        return {**item, "mask": torch.from_numpy(mask.astype(np.uint8))[None]}
