"""Checks of an inference before the first image is segmented."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvm_monai.engines.memory_needs import check_inference_memory
from cvm_monai.engines.workflow import running_parser
from cvm_monai.errors import CvmError
from cvm_monai.files import try_folder
from cvm_monai.inference import working_factor
from cvm_monai.knobs import check

from .before_training import check_device
from .errors import exit_on_error
from .places import begin


def inference_checks() -> None:
    """Check the knobs, the images' headers, the network and its weights, and that predictions can be written.

    All are instantiated here, by their ids in the running configuration, so that any error ends as one sentence.
    """
    parser = running_parser("inference_checks")
    begin()
    with exit_on_error():
        knobs = parser.get_parsed_content("knobs")
        check_inference_knobs(knobs)
        records = parser.get_parsed_content("dataset#data")
        check_pixel_sizes(records, knobs)
        check_inference_memory(records, knobs)
        parser.get_parsed_content("evaluator")
        check_prediction_dir(Path(knobs["prediction_dir"]), records)


def check_inference_knobs(knobs: Mapping[str, Any], run: str = "inference") -> None:
    """Raise CvmError for a knob out of its range, naming it."""
    check(knobs, run)
    if "device" in knobs:
        check_device(knobs["device"])


def check_pixel_sizes(records: Sequence[Mapping[str, Any]], knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for the first image without micrometres per pixel, if the network was trained at a pixel size."""
    for record in records:
        working_factor(
            scale=knobs["scale"], mpp=knobs["mpp"], image_mpp=record.get("mpp"), case_id=str(record.get("case_id"))
        )


def check_prediction_dir(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Create the folder and test writing; refuse the images' own folder: the next run would read predictions."""
    if any(Path(str(record["image"])).resolve().parent == folder.resolve() for record in records):
        raise CvmError(f"--prediction_dir {folder} holds the images themselves: choose another folder")
    try:
        try_folder(folder)
    except OSError as error:
        raise CvmError(
            f"predictions cannot be written to {folder} ({error.strerror}): choose another --output_dir, "
            "or name a folder by --prediction_dir"
        ) from error
