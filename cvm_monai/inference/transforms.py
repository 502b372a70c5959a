"""Steps of the bundle's `inference`: find the images in a folder, read, prepare, resize back, write.

`find_images` checks the header of each image before the first one is segmented; the rest are MONAI dictionary
transforms around the network.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from cvm_monai.data.datalist import FILE_NAME, read_datalist
from cvm_monai.data.stain import StainTarget
from cvm_monai.engines.scoring import full_probabilities, full_probability
from cvm_monai.errors import CvmError
from cvm_monai.inference.predict import network_input, working_factor
from cvm_monai.inference.write import check_output, write_classes, write_prediction
from cvm_monai.knobs import INFERENCE, OutputFormat, ProbabilityType
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.slides import IMAGE_SUFFIXES, image_header, read_picture

Item = dict[Hashable, Any]

logger = logging.getLogger(__name__)


def find_images(
    folder: str | Path, *, images: str | Sequence[str] | None = None, image_mpp: float | None = None
) -> list[dict[str, Any]]:
    """Find the images to segment: records {case_id, image, mpp} in the order of their names.

    They are the files named in `images`, else those in the folder's `images/`, else those directly in it, else those of
    its `datalist.json`. The case id is the file's name without its suffix. Each header is read, so that a damaged file
    stops the work before it begins.

    Args:
        folder: of the data.
        images: file names, looked for in `images/`, in the folder, and as paths; they keep their order.
        image_mpp: micrometres per pixel of all images; None: those in `datalist.json`, else those of each file (not
            the dpi of PNG, JPEG and BMP, nor a value that no microscope has).

    Raises:
        CvmError: no such folder or file, no image, an unreadable one, or two images of one name.
    """
    folder = Path(folder)
    listed = _listed(folder)
    if images is not None:
        paths = [_named(name, folder) for name in ([images] if isinstance(images, str) else images)]
    else:
        paths = _inside(folder) or list(listed)
    if not paths:
        raise CvmError(
            f"there is no image in {folder / 'images'} or {folder} ({', '.join(IMAGE_SUFFIXES)}): "
            "give the folder that holds them, or name them by --images"
        )
    _check_names(paths)
    said = [image_header(path)[1] for path in paths]
    known = [own if (mpp := listed.get(path.resolve())) is None else mpp for path, own in zip(paths, said, strict=True)]
    return [
        {"case_id": path.stem, "image": str(path), "mpp": mpp if image_mpp is None else image_mpp}
        for path, mpp in zip(paths, known, strict=True)
    ]


def _inside(folder: Path) -> list[Path]:
    """List the images of `images/`, else of the folder itself."""
    if not folder.is_dir():
        raise CvmError(f"{folder} is not a folder: give one with images as dataset_dir")
    for place in (folder / "images", folder):
        found = [path for path in place.iterdir() if _is_image(path)] if place.is_dir() else []
        if found:
            return sorted(found)
    return []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _named(name: str, folder: Path) -> Path:
    """Find the file that a name means."""
    for path in (folder / "images" / name, folder / name, Path(name)):
        if path.is_file():
            return path
    raise CvmError(f"the image {name} is neither in {folder / 'images'}, nor in {folder}, nor in {Path.cwd()}")


def _listed(folder: Path) -> dict[Path, float | None]:
    """Read the images and their micrometres per pixel from the folder's data list."""
    if not (folder / FILE_NAME).is_file():
        return {}
    return {case.image: case.mpp for case in read_datalist(folder).cases}


def _check_names(paths: Sequence[Path]) -> None:
    """Refuse two images of the same stem, by which predictions are named."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise CvmError(
                f"{other} and {path} would both be written as {path.stem}: rename one, or "
                "run them separately by --images"
            )


class ReadImaged(Transform):
    """Read a record's file `image` as uint8 (3, H, W); keep the record's other entries except those that are None."""

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
        stain: target of the training's stain normalisation; None: without normalisation.
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
    """Convert `pred`, logits (C, h, w), to probabilities at the image's `full_shape`.

    (1, H, W), the target's, for two classes; (C, H, W) for more.
    """

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        shape = tuple(int(side) for side in item["full_shape"])
        if len(item["pred"]) > 2:
            return {**item, "pred": torch.from_numpy(full_probabilities(item["pred"], shape))}
        return {**item, "pred": torch.from_numpy(full_probability(item["pred"], shape))[None]}


class SavePredictiond(Transform):
    """Write `pred`, the probability (1, H, W) of a case; adds `mask` uint8 (1, H, W), 1 where p > 0.5.

    For more than two classes `pred` is (C, H, W), and `mask` the most probable class (argmax).

    Args:
        folder: `prediction/` of the output folder.
        output_format: `png`, `tiff` or `nifti`; see `cvm_monai.inference.write`.
        probability_type: `uint8` for round(255 p), `float32` for p itself (not in PNG).
        class_probabilities: for more than two classes, also write the probability of each foreground class.

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
        INFERENCE["class_probabilities"].check(class_probabilities)
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
