"""Checks of a training or an evaluation before the first image is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.bundle import ConfigParser

from cvm_monai.data.fold_parts import check_split
from cvm_monai.engines.memory_needs import check_training_memory
from cvm_monai.engines.network_options import check_compiler, check_sync_batchnorm
from cvm_monai.engines.restarts import restart_epochs
from cvm_monai.engines.workflow import active_parser
from cvm_monai.errors import CvmError
from cvm_monai.files import shown, try_folder
from cvm_monai.knobs import check, names
from cvm_monai.networks import FROZEN_NETWORKS
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.networks.extractor_files import checked_encoder, checked_extractor
from cvm_monai.networks.extractor_names import is_imagenet, is_timm
from cvm_monai.networks.timm_weights import pinned_name
from cvm_monai.runs.store import check_tracking_uri
from cvm_monai.supervision.factory import METHODS, check_classes

from .errors import exit_on_error
from .places import begin

REPEATED = ("flips", "none")
"""Augmentations that give an image at most eight variants."""


def preflight(
    knobs: Mapping[str, Any] | None = None,
    check_data: bool = True,
    val_interval: int | None = None,
    going_on: bool = False,
) -> None:
    """Check paths, knobs, the data list and its split, the tracking address, and that the output can be written.

    Args:
        knobs: for configurations that list them; None: those of the running configuration.
        check_data: whether the data list is checked.
        val_interval: for configurations that list their knobs, since it is not a knob.
        going_on: the network is loaded with a training's weights, whose `encoder_norm` it keeps.
    """
    parser = active_parser()
    evaluates = parser is not None and "evaluating" in parser
    if knobs is None:
        begin()
    with exit_on_error():
        if parser is not None and evaluates:
            output = Path(parser.get_parsed_content("output_dir"))
            check_trained(output, Path(parser.get_parsed_content("ckpt_path")))
        if knobs is None:
            knobs = _configured(parser)
        asked = {"val_interval": 1 if val_interval is None else val_interval, **knobs}
        check_knobs(asked)
        if not evaluates and not going_on:
            check_encoder_norm(asked)
        check_folders(asked)
        check_extractors(asked)
        check_tracking_uri(asked["tracking_uri"])
        if check_data:
            check_dataset(asked, trains=not evaluates)


def _configured(parser: ConfigParser | None) -> dict[str, Any]:
    """Collect the knobs of the running configuration."""
    if parser is None:
        raise RuntimeError("preflight is called from a bundle's configuration, by python -m monai.bundle run")
    for name in names(recorded=False):  # a reference to an entry that does not exist must fail here, before any work
        if name in parser:
            parser.get_parsed_content(name)
    return {"val_interval": parser.get_parsed_content("val_interval"), **parser.get_parsed_content("knobs")}


def check_folders(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for a folder that cannot be written."""
    check_writable(Path(knobs["output_dir"]))
    if knobs["feature_store"] is not None:
        check_writable(Path(knobs["feature_store"]), knob="feature_store", what="folder of features")


def check_extractors(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for missing files or unknown names of pretrained networks."""
    extractor = (knobs.get("extractor_path"), knobs.get("extractor_weights"))
    if is_timm(knobs.get("encoder_weights")):
        pinned_name(knobs["encoder_weights"])
    if knobs["network"] == "timm_unet":
        checked_encoder(*extractor)
    frozen = reads_frozen_features(knobs) or knobs["network"] in FROZEN_NETWORKS
    if frozen:
        checked_extractor(*extractor)
    if is_imagenet(extractor[0]) and (frozen or knobs["network"] == "timm_unet"):
        check_image_statistics(knobs)


def check_image_statistics(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for image statistics from which EfficientNet-Lite's own input cannot be computed."""
    for name, own in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
        if tuple(knobs.get(name) or own) != tuple(own):
            raise CvmError(
                f"--extractor_path imagenet takes images normalised by ImageNet's mean and deviation, and --{name} is "
                f"{shown(list(knobs[name]))}: drop --{name}"
            )


def check_dataset(knobs: Mapping[str, Any], *, trains: bool) -> None:
    """Raise CvmError for a data list that does not suit the knobs, or images that do not fit into the memory."""
    dense = knobs["supervision"] == "full"
    datalist = check_split(knobs["dataset_dir"], fold=knobs["fold"], seed=knobs["seed"], supervision_needs_masks=dense)
    check_class_count(knobs, len(datalist.classes))
    check_training_memory(knobs, datalist, trains=trains)


def check_trained(folder: Path, weights: Path) -> None:
    """Raise CvmError if an evaluation is requested but nothing was trained; until then its knobs are defaults."""
    if not weights.is_file():
        found = (
            "its training has not written one yet" if (folder / "run.json").is_file() else "nothing was trained there"
        )
        raise CvmError(
            f"there is no trained network in {folder} ({weights.name} is missing: {found}): run `training` with this "
            "--output_dir first, or give that of a training"
        )


def check_knobs(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for a knob out of its range, naming it, or for knobs that contradict each other."""
    check(knobs)
    check_device(knobs["device"])
    check_speed(knobs)
    check_large_images(knobs)
    check_feature_store(knobs)
    restart_epochs(count=knobs["restarts"], max_epochs=knobs["max_epochs"])
    if knobs["crop_size"] == 0 and knobs["batch_size"] > 1:
        raise CvmError("--crop_size 0 trains on whole images, which need --batch_size 1")


def check_device(device: Any) -> None:
    """Raise CvmError for a name that is not a torch device."""
    try:
        torch.device(device if isinstance(device, torch.device) else str(device))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise CvmError(f"--device must be cpu, cuda or cuda:N, got {shown(device)} ({reason[:200]})") from error


def check_speed(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for a speed option that does not work on this machine or device."""
    if knobs["compile"]:
        check_compiler(knobs["device"])
    if knobs["sync_batchnorm"] and idist.get_world_size() > 1:
        check_sync_batchnorm(knobs["device"])


def check_large_images(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for an extraction mode that the network does not support."""
    if knobs["extraction"] != "whole" and knobs["network"] != "two_component":
        raise CvmError(f"--extraction {knobs['extraction']} is for --network two_component alone: leave it out")


def check_encoder_norm(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError for an `encoder_norm` that needs pretrained statistics if no weights provide any.

    An evaluation takes the knob from the record, and its network is loaded with the trained weights.
    """
    with_weights = knobs.get("encoder_weights") is not None or knobs["network"] == "timm_unet"
    if knobs.get("encoder_norm") is not None and not with_weights:
        raise CvmError(
            f"--encoder_norm {knobs['encoder_norm']} is for the statistics of weights that are read: give their file "
            "by --encoder_weights, or leave it out"
        )


def reads_frozen_features(knobs: Mapping[str, Any]) -> bool:
    """Whether u is computed from the features of a frozen extractor."""
    return knobs["supervision"] == "frozen_cvm" or (knobs["supervision"] == "cvm" and knobs["evidence"] != "own")


def check_feature_store(knobs: Mapping[str, Any]) -> None:
    """Raise CvmError if features would be stored for images that never recur, or without a frozen extractor."""
    if knobs["feature_store"] is None:
        return
    method = knobs["supervision"]
    if knobs["network"] not in FROZEN_NETWORKS:
        if not reads_frozen_features(knobs):
            raise CvmError("--feature_store keeps features of a frozen extractor, and this training has none: drop it")
        return  # this extractor sees images without augmentation alone
    if METHODS[method].changes_images:
        raise CvmError(
            f"--supervision {method} changes images at random, so that no feature recurs: drop --feature_store"
        )
    if knobs["augmentation"] not in REPEATED or any(knobs[name] for name in ("crop_size", "stain_jitter", "pen_marks")):
        raise CvmError(
            "--feature_store needs images that repeat exactly: give --augmentation flips (or none), --stain_jitter 0, "
            "--pen_marks 0, --crop_size 0 and --batch_size 1, or drop it"
        )


def check_class_count(knobs: Mapping[str, Any], found: int) -> None:
    """Raise CvmError if the knob or the method does not suit the classes of the data list."""
    if knobs["classes"] != found:
        raise CvmError(f"--classes is {shown(knobs['classes'])}, the data list has {found}: leave it out")
    check_classes(knobs["supervision"], found)


def check_writable(folder: Path, *, knob: str = "output_dir", what: str = "output folder") -> None:
    """Create the folder and test writing; raises an error that names the folder if that is not permitted."""
    try:
        try_folder(folder)
    except OSError as error:
        reason = f"the {what} {folder} cannot be written ({error.strerror}): choose another --{knob}"
        raise CvmError(reason) from error
