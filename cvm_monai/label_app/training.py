"""Run one training as the bundle's own command, in a separate process."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from cvm_monai.bundle_files import as_entry
from cvm_monai.errors import CvmError
from cvm_monai.interactive.current import model_path, recorded_knobs
from cvm_monai.interactive.trainings import (
    TRAINABLE,
    bundle_command,
    new_run_folder,
    training_configuration,
    training_environment,
)
from cvm_monai.knob_kinds import Choice, Knob
from cvm_monai.label_app.app_settings import AppSettings
from cvm_monai.label_app.training_data import check_labels, write_dataset
from cvm_monai.runs import RunFolder
from cvm_monai.runs.store import sqlite_address

Start = Literal["current", "scratch"]
"""Whether a training continues from the current network's weights or starts at random ones."""

KNOBS: Mapping[str, Knob] = {
    "start": Knob("start", Choice(get_args(Start)), "current", "whether it goes on from the network in use"),
    **TRAINABLE,
}
"""Keys of a request that configure a training."""
DEFAULTS: Mapping[str, Any] = {name: KNOBS[name].default for name in ("max_epochs", "start")}
MAKING = ("network_channels", "normalisation", "encoder_norm", "extractor_path", "extractor_weights")
"""Knobs that define a network beside its name; a training that continues from weights must not change them."""
KEPT = ("network", "scale", "mpp", "stain_normalisation", "image_mean", "image_std")
EVIDENCE = ("contrast", "centre", "combination", "discriminant")
"""Further knobs that the next training inherits: the images' normalisation and the pseudo-labels."""


@dataclass(frozen=True)
class Trained:
    """Result of a training: its folder, and the number of training images or crops."""

    output_dir: Path
    images: int


def read_knobs(request: Mapping[str, Any]) -> dict[str, Any]:
    """Read a request's knobs of the training and `start`; other keys are MONAI Label's and are ignored.

    Only numbers and known words are accepted, since a configuration executes text that begins with `$`.

    Raises:
        CvmError: a value of the wrong type or out of range, or both `scale` and `mpp`.
    """
    knobs = dict(DEFAULTS)
    for name, knob in KNOBS.items():
        value = request.get(name)
        if isinstance(value, list):  # a client may echo the choices of `info`
            value = value[0] if value else None
        if value not in (None, ""):
            knobs[name] = knob.read(value)
    if "scale" in knobs and "mpp" in knobs:
        raise CvmError("scale and mpp both say how large a pixel is: give one of them")
    return knobs


def check_training(
    labelled: Sequence[tuple[str, Path, Path]],
    *,
    settings: AppSettings,
    current: Path | None,
    knobs: Mapping[str, Any],
) -> None:
    """Refuse a request that `train` would refuse before its first epoch; no pixel is read.

    Raises:
        CvmError: no bundle, labels that are unreadable or insufficient, or unknown um/px.
    """
    training_configuration(settings.bundle)
    _, scale, mpp = _working_size(knobs, current)
    check_labels(labelled, classes=settings.classes, scale=scale, mpp=mpp, image_mpp=settings.image_mpp)


def _working_size(knobs: Mapping[str, Any], current: Path | None) -> tuple[dict[str, Any], float, float | None]:
    """Return the knobs of the network in use, and the scale or um/px of a training."""
    known = recorded_knobs(current)
    inherited = {name: known[name] for name in (*KEPT, *EVIDENCE, *MAKING, "classes")}
    if "scale" in knobs:
        inherited["mpp"] = None  # a scale has no effect beside an mpp
    return inherited, knobs.get("scale", inherited["scale"]), knobs.get("mpp", inherited["mpp"])


def train(
    labelled: Sequence[tuple[str, Path, Path]],
    *,
    settings: AppSettings,
    current: Path | None,
    knobs: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> Trained:
    """Train on labelled images into a new folder `work/runs/<time>/`; existing files do not change.

    Args:
        labelled: (image id, image, label) of each.
        current: output folder of the training in use, whose knobs are inherited unless others are given.
        knobs: as `read_knobs` returns them.
        say: called with each line that the training prints.

    Raises:
        CvmError: no bundle, insufficient labels, or a failed training, with its last line of output.
    """
    config = training_configuration(settings.bundle)
    inherited, scale, mpp = _working_size(knobs, current)
    chosen = {key: value for key, value in knobs.items() if key != "start"}
    output = new_run_folder(settings.work / "runs")
    datalist = write_dataset(
        labelled,
        output / "dataset",
        classes=settings.classes,
        scale=scale,
        mpp=mpp,
        image_mpp=settings.image_mpp,
        seed=chosen.get("seed", 0),
    )
    going_on = knobs.get("start") == "current" and _same_network(inherited, chosen, current, len(settings.names))
    values = _options(
        chosen,
        inherited,
        output=output,
        settings=settings,
        trained=current is not None,
        weights=model_path(current, bundle=settings.bundle) if going_on and current else None,
    )
    code, last = _run(bundle_command("training", str(config), values), log=output / "training.log", say=say)
    if code != 0 or not model_path(output, bundle=settings.bundle).is_file():
        raise CvmError(f"the training ended with code {code}: {last} ({output / 'training.log'})")
    return Trained(output, len(datalist.cases))


def _same_network(inherited: Mapping[str, Any], chosen: Mapping[str, Any], current: Path | None, classes: int) -> bool:
    """Whether the current weights fit the network to be trained."""
    same = chosen.get("network", inherited["network"]) == inherited["network"]
    return current is not None and same and inherited["classes"] == classes


def _inherited(chosen: Mapping[str, Any], inherited: Mapping[str, Any], *, going_on: bool) -> dict[str, Any]:
    """Return the knobs that the next training inherits from the last one."""
    kept = {name: inherited[name] for name in (*KEPT, *EVIDENCE)}
    if chosen.get("network", inherited["network"]) == inherited["network"]:
        kept |= {name: inherited[name] for name in MAKING}
        if not going_on and inherited["network"] != "timm_unet":
            del kept["encoder_norm"]  # of weights that a newly started network does not read
    return kept


def _options(
    chosen: Mapping[str, Any],
    inherited: Mapping[str, Any],
    *,
    output: Path,
    settings: AppSettings,
    trained: bool,
    weights: Path | None,
) -> dict[str, Any]:
    """Return the overrides of the bundle's training configuration; `trained`: there is a training to inherit from."""
    dataset = as_entry(output / "dataset")
    kept = _inherited(chosen, inherited, going_on=weights is not None) if trained else {}
    values: dict[str, Any] = {name: value for name, value in kept.items() if value is not None} | dict(chosen)
    values |= {
        "dataset_dir": dataset,
        "output_dir": as_entry(output),
        "tracking_uri": sqlite_address(settings.work / "mlruns.db"),
        "experiment_name": "cvm_monai_label",
        "preflight#check_data": False,
        "preflight#going_on": weights is not None,
        "device": f"$torch.device({settings.device!r})",
    }
    if torch.device(settings.device).type == "cpu":
        values["amp"] = False
    if "scale" in chosen:
        values["mpp"] = "$None"  # the command ignores None, and the bundle may have its own mpp
    for part, name in (("train", "train"), ("validate", "validation")):
        target = "cvm_monai.label_app.training_data.part_records"
        values[f"{part}#dataset#data"] = {"_target_": target, "dataset_dir": dataset, "part": name}
    if weights is not None:
        network = {
            "_target_": "cvm_monai.networks.build_network",
            "name": "@network",
            "out_channels": "@classes",
            "channels": "@network_channels",
            "normalisation": "@normalisation",
            "encoder_norm": "@encoder_norm",
            "extractor_path": "@extractor_path",
            "extractor_weights": "@extractor_weights",
            "pretrained": False,
        }
        target = "cvm_monai.networks.state.load_weights"
        values["network_def"] = {"_target_": target, "network": network, "path": str(weights)}
    return values


def _run(command: Sequence[str], *, log: Path, say: Callable[[str], None]) -> tuple[int, str]:
    """Run the command; returns exit code and last non-empty line. Output is passed on line by line and logged."""
    environment = training_environment()
    last = ""
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            say(line.rstrip())
            last = line.strip() or last
    return process.returncode, last


def summary(output_dir: Path) -> dict[str, Any]:
    """Summarise a training's `run.json` for MONAI Label's `train_stats`; empty without one."""
    if not (facts := RunFolder(output_dir).known):
        return {}
    shown = ("status", "started", "training_seconds", "renewal_seconds", "mlflow_run_id")
    return {"output_dir": output_dir.name} | {name: facts[name] for name in shown if name in facts}
