"""Everything about an inference that can be checked before the first image is segmented."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from cvm_monai.engines.memory_needs import check_inference_memory
from cvm_monai.engines.record_checks import CHECKS
from cvm_monai.engines.workflow import running_parser
from cvm_monai.errors import CvmError
from cvm_monai.files import shown, try_folder
from cvm_monai.inference import working_factor
from cvm_monai.networks import NetworkName

from .before_training import check_device, is_above_zero, is_path
from .errors import exit_on_error

ABOVE_ZERO = ("scale", "mpp", "image_mpp")
RECORDED = ("network_channels", "normalisation", "classes")
"""Knobs of which `record_checks` knows what they may be."""
FILES = ("images", "ensemble")


def inference_checks() -> None:
    """Check the knobs, the images' headers, the network and its weights, and that predictions can be written.

    All of it is instantiated here, by its id in the running configuration, so that any error ends as one sentence.
    """
    parser = running_parser("inference_checks")
    with exit_on_error():
        knobs = parser.get_parsed_content("knobs")
        check_inference_knobs(knobs)
        records = parser.get_parsed_content("dataset#data")
        check_pixel_sizes(records, knobs)
        check_inference_memory(records, knobs)
        parser.get_parsed_content("evaluator")
        check_prediction_dir(Path(knobs["prediction_dir"]), records)


def check_inference_knobs(knobs: Mapping[str, Any]) -> None:
    """CvmError for a knob out of its range, naming it; what the classes check themselves is left to them."""
    if knobs["network"] not in get_args(NetworkName):
        raise CvmError(f"--network must be one of {', '.join(get_args(NetworkName))}, got {shown(knobs['network'])}")
    for name in RECORDED:
        right, what = CHECKS[name]
        if name in knobs and not right(knobs[name]):
            raise CvmError(f"--{name} must be {what}, got {shown(knobs[name])}")
    for name in FILES:
        value = knobs.get(name)
        texts = [value] if isinstance(value, str | Path) or value is None else value
        if not isinstance(texts, list | tuple) or not all(map(is_path, texts)):
            raise CvmError(f"--{name} must be a path or a list of paths, got {shown(value)}")
    if "device" in knobs:
        check_device(knobs["device"])
    for name in ABOVE_ZERO:
        value = knobs[name]
        if value is None and name != "scale":
            continue
        if not is_above_zero(value):
            raise CvmError(f"--{name} must be a number greater than 0, got {shown(value)}")


def check_pixel_sizes(records: Sequence[Mapping[str, Any]], knobs: Mapping[str, Any]) -> None:
    """CvmError for the first image without micrometres per pixel, where the network was trained at some."""
    for record in records:
        working_factor(
            scale=knobs["scale"], mpp=knobs["mpp"], image_mpp=record.get("mpp"), case_id=str(record.get("case_id"))
        )


def check_prediction_dir(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Make the folder and try it; predictions among the images would be taken for images by the next run."""
    if any(Path(str(record["image"])).resolve().parent == folder.resolve() for record in records):
        raise CvmError(f"--prediction_dir {folder} holds the images themselves: choose another folder")
    try:
        try_folder(folder)
    except OSError as error:
        raise CvmError(
            f"predictions cannot be written to {folder} ({error.strerror}): choose another --output_dir, "
            "or name a folder by --prediction_dir"
        ) from error
