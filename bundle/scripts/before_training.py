"""Everything that can be checked before the first image is read."""

import math
from pathlib import Path
from typing import Any, get_args

import ignite.distributed as idist
import torch

from cvm_monai.data.augmentation import AugmentationName
from cvm_monai.data.records import check_split
from cvm_monai.data.stain import StainNormalisation
from cvm_monai.engines.memory_needs import check_training_memory
from cvm_monai.engines.network_options import check_compiler, check_sync_batchnorm
from cvm_monai.engines.record_checks import CHECKS
from cvm_monai.engines.restarts import restart_epochs
from cvm_monai.engines.resume import ResumeRule
from cvm_monai.engines.selection import Selection
from cvm_monai.engines.tracking import check_tracking_uri
from cvm_monai.engines.workflow import active_parser
from cvm_monai.errors import CvmError
from cvm_monai.files import shown, try_folder
from cvm_monai.networks import FROZEN_NETWORKS, Extraction, FeatureDtype, LargeImages, NetworkName, Normalisation
from cvm_monai.networks.extractor_files import checked_encoder, checked_extractor
from cvm_monai.networks.extractor_names import is_timm
from cvm_monai.networks.timm_weights import pinned_name
from cvm_monai.supervision.contrast_evidence import Combination, Contrast
from cvm_monai.supervision.cvm import Evidence
from cvm_monai.supervision.factory import METHODS, SupervisionName, check_classes
from cvm_monai.variational import Centre, SolverName

from .errors import exit_on_error

CHOICES = {
    "supervision": get_args(SupervisionName),
    "network": get_args(NetworkName),
    "solver": get_args(SolverName),
    "augmentation": get_args(AugmentationName),
    "stain_normalisation": get_args(StainNormalisation),
    "combination": get_args(Combination),
    "contrast": get_args(Contrast),
    "centre": get_args(Centre),
    "evidence": get_args(Evidence),
    "extraction": get_args(Extraction),
    "normalisation": get_args(Normalisation),
    "feature_dtype": get_args(FeatureDtype),
    "resume": get_args(ResumeRule),
    "selection": get_args(Selection),
}
AT_LEAST = {
    "pairs": 1,
    "point_size": 1,
    "iterations": 1,
    "renew_from": 0,
    "renew_every": 0,
    "restarts": 0,
    "batch_size": 1,
    "accumulation_steps": 1,
    "max_epochs": 1,
    "num_workers": 0,
    "fold": 0,
    "seed": 0,
    "crop_size": 0,
}
RECORDED = ("network_channels", "encoder_norm", "discriminant", "image_mean", "image_std")
"""Knobs of which `record_checks` knows what they may be, since later runs read them from the record."""
PATHS = ("encoder_weights", "extractor_path", "extractor_weights")
"""Knobs that name a file, or are None."""
SWITCHES = ("amp", "channels_last", "compile", "sync_batchnorm")
LONGEST_PATH = 4096
"""Characters that a path may have on Linux."""
HUGE = 1e9
"""No size, weight or rate reaches it."""
ABOVE_ZERO = ("lam", "learning_rate", "scale", "mpp", "renew_below")
REPEATED = ("flips", "none")
"""Augmentations by which an image has at most eight forms."""
MAY_BE_NONE = ("mpp", "renew_below")


def preflight(knobs: dict[str, Any], check_data: bool = True, val_interval: int = 1, going_on: bool = False) -> None:
    """Check the knobs, the data list and its split, the tracking address, and that the output folder can be written.

    Args:
        going_on: the network is filled with a training's weights, whose `encoder_norm` it keeps.
    """
    parser = active_parser()
    evaluates = parser is not None and "evaluating" in parser
    with exit_on_error():
        if parser is not None and evaluates:
            check_trained(Path(knobs["output_dir"]), Path(parser.get_parsed_content("ckpt_path")))
        check_knobs(knobs | {"val_interval": val_interval})
        if not evaluates and not going_on:
            check_encoder_norm(knobs)
        check_writable(Path(knobs["output_dir"]))
        extractor = (knobs.get("extractor_path"), knobs.get("extractor_weights"))  # MONAI drops None
        if is_timm(knobs.get("encoder_weights")):
            pinned_name(knobs["encoder_weights"])
        if knobs["network"] == "timm_unet":
            checked_encoder(*extractor)
        if reads_frozen_features(knobs) or knobs["network"] in FROZEN_NETWORKS:
            checked_extractor(*extractor)
        if knobs["feature_store"] is not None:
            check_writable(Path(knobs["feature_store"]), knob="feature_store", what="folder of features")
        check_tracking_uri(knobs["tracking_uri"])
        if check_data:
            dense = knobs["supervision"] == "full"
            datalist = check_split(
                knobs["dataset_dir"], fold=knobs["fold"], seed=knobs["seed"], supervision_needs_masks=dense
            )
            check_class_count(knobs, len(datalist.classes))
            check_training_memory(knobs, datalist, trains=not evaluates)


def check_trained(folder: Path, weights: Path) -> None:
    """CvmError where an evaluation is asked for and nothing was trained; before that, its knobs are defaults."""
    if not weights.is_file():
        found = (
            "its training has not written one yet" if (folder / "run.json").is_file() else "nothing was trained there"
        )
        raise CvmError(
            f"there is no trained network in {folder} ({weights.name} is missing: {found}): run `training` with this "
            "--output_dir first, or give that of a training"
        )


def check_knobs(knobs: dict[str, Any]) -> None:
    """CvmError for a knob out of its range, naming it."""
    check_texts(knobs)
    for name, choices in CHOICES.items():
        if knobs[name] not in choices:
            raise CvmError(f"--{name} must be one of {', '.join(choices)}, got {shown(knobs[name])}")
    for name, low in AT_LEAST.items():
        if type(knobs[name]) is not int or knobs[name] < low:
            raise CvmError(f"--{name} must be a whole number of at least {low}, got {shown(knobs[name])}")
    for name in ABOVE_ZERO:
        if name in MAY_BE_NONE and knobs[name] is None:
            continue
        if not is_above_zero(knobs[name]):
            raise CvmError(f"--{name} must be a number greater than 0, got {shown(knobs[name])}")
    check_fractions(knobs)
    check_recorded_knobs(knobs)
    check_device(knobs["device"])
    check_switches(knobs)
    check_large_images(knobs)
    check_feature_store(knobs)
    restart_epochs(count=knobs["restarts"], max_epochs=knobs["max_epochs"])
    if knobs["crop_size"] == 0 and knobs["batch_size"] > 1:
        raise CvmError("--crop_size 0 trains on whole images, which need --batch_size 1")


def is_above_zero(value: Any) -> bool:
    """Whether a knob is a number greater than 0, and none that stands for infinity."""
    return isinstance(value, int | float) and 0 < value < HUGE


def is_path(value: Any) -> bool:
    """Whether a knob is a path that a file can have, or None."""
    return value is None or (isinstance(value, str | Path) and len(str(value)) <= LONGEST_PATH)


def check_texts(knobs: dict[str, Any]) -> None:
    """CvmError for a path or an address that is none."""
    for name in ("dataset_dir", "output_dir", "tracking_uri"):
        text = str(knobs.get(name, ""))
        if not isinstance(knobs.get(name, ""), str | Path) or "\0" in text or len(text) > LONGEST_PATH:
            raise CvmError(f"--{name} must be a path or an address, got {shown(knobs[name])}")

    for name in PATHS:
        if not is_path(knobs.get(name)):
            raise CvmError(f"--{name} must be a path, got {shown(knobs[name])}")


def check_recorded_knobs(knobs: dict[str, Any]) -> None:
    """CvmError for widths, means or deviations that no training can have; for the decay of weights as well."""
    for name in RECORDED:
        right, what = CHECKS[name]
        if name in knobs and not right(knobs[name]):
            raise CvmError(f"--{name} must be {what}, got {shown(knobs[name])}")
    decay = knobs.get("weight_decay", 0)
    if type(decay) not in (int, float) or not 0 <= decay < math.inf:
        raise CvmError(f"--weight_decay must be a number of at least 0, got {shown(decay)}")
    interval = knobs.get("val_interval", 1)
    if type(interval) is not int or interval < 1:
        raise CvmError(f"--val_interval must be a whole number of at least 1, got {shown(interval)}")


def check_device(device: Any) -> None:
    """CvmError for what torch knows no device by."""
    try:
        torch.device(device if isinstance(device, torch.device) else str(device))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise CvmError(f"--device must be cpu, cuda or cuda:N, got {shown(device)} ({reason[:200]})") from error


def check_fractions(knobs: dict[str, Any]) -> None:
    """CvmError for a part of a whole that is none."""
    if not isinstance(knobs["eta"], int | float) or not 0 <= knobs["eta"] <= 1:
        raise CvmError(f"--eta must lie in [0, 1], got {shown(knobs['eta'])}")
    if not isinstance(knobs["stain_jitter"], int | float) or not 0 <= knobs["stain_jitter"] < 1:
        raise CvmError(f"--stain_jitter must lie in [0, 1), got {shown(knobs['stain_jitter'])}")


def check_switches(knobs: dict[str, Any]) -> None:
    """CvmError for a switch that is neither True nor False, such as the text 'true', or that cannot work here."""
    for name in SWITCHES:
        if not isinstance(knobs[name], bool):
            raise CvmError(f"--{name} must be True or False, got {shown(knobs[name])}")
    if knobs["compile"]:
        check_compiler(knobs["device"])
    if knobs["sync_batchnorm"] and idist.get_world_size() > 1:
        check_sync_batchnorm(knobs["device"])


def check_large_images(knobs: dict[str, Any]) -> None:
    """CvmError for sizes that are no whole cells, or a way of extraction that the network does not have."""
    try:
        LargeImages(patch_size=knobs["patch_size"], halo=knobs["halo"])
    except ValueError as error:
        raise CvmError(f"--{error}") from error
    if knobs["extraction"] != "whole" and knobs["network"] != "two_component":
        raise CvmError(f"--extraction {knobs['extraction']} is for --network two_component alone: leave it out")


def check_encoder_norm(knobs: dict[str, Any]) -> None:
    """CvmError for statistics to keep, train or replace where a training reads no weights that bring any.

    An evaluation takes the knob from the record, and its network is filled from the trained weights.
    """
    with_weights = knobs.get("encoder_weights") is not None or knobs["network"] == "timm_unet"
    if knobs.get("encoder_norm") is not None and not with_weights:
        raise CvmError(
            f"--encoder_norm {knobs['encoder_norm']} is for the statistics of weights that are read: give their file "
            "by --encoder_weights, or leave it out"
        )


def reads_frozen_features(knobs: dict[str, Any]) -> bool:
    """Whether u is made from the features of a frozen extractor."""
    return knobs["supervision"] == "frozen_cvm" or (knobs["supervision"] == "cvm" and knobs["evidence"] != "own")


def check_feature_store(knobs: dict[str, Any]) -> None:
    """CvmError where features would be stored of images that never come again, or of no frozen extractor."""
    if knobs["feature_store"] is None:
        return
    if not isinstance(knobs["feature_store"], str):
        raise CvmError(f"--feature_store must be a folder, got {knobs['feature_store']!r}")
    method = knobs["supervision"]
    if knobs["network"] not in FROZEN_NETWORKS:
        if not reads_frozen_features(knobs):
            raise CvmError("--feature_store keeps features of a frozen extractor, and this training has none: drop it")
        return  # this extractor sees images without augmentation alone
    if METHODS[method].changes_images:
        raise CvmError(
            f"--supervision {method} changes images at random, so that no feature comes again: drop --feature_store"
        )
    if knobs["augmentation"] not in REPEATED or knobs["crop_size"] or knobs["stain_jitter"]:
        raise CvmError(
            "--feature_store needs images that come again: give --augmentation flips (or none), --stain_jitter 0, "
            "--crop_size 0 and --batch_size 1, or drop it"
        )


def check_class_count(knobs: dict[str, Any], found: int) -> None:
    """CvmError where the knob or the method does not suit the classes of the data list."""
    if knobs["classes"] != found:
        raise CvmError(f"--classes is {shown(knobs['classes'])}, the data list has {found}: leave it out")
    check_classes(knobs["supervision"], found)


def check_writable(folder: Path, *, knob: str = "output_dir", what: str = "output folder") -> None:
    """Make the folder; OSError's text names it where that is not allowed."""
    try:
        try_folder(folder)
    except OSError as error:
        reason = f"the {what} {folder} cannot be written ({error.strerror}): choose another --{knob}"
        raise CvmError(reason) from error
