"""Where a training of the page keeps the frozen features of its images while it runs, to compute them once."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvm_monai.annotate.dataset import TrainingData
from cvm_monai.data.datalist import read_datalist
from cvm_monai.engines.memory_needs import sized
from cvm_monai.interactive.trainings import TRAINABLE, Learner
from cvm_monai.supervision.factory import METHODS

FOLDER = "features"
"""Name of the folder within the run folder."""

BYTES = 160
"""Bytes per pixel of an image: 496 channels of float32 at 1/8 for the network, and at 1/4 for u."""

DISK_SHARE = 0.25
"""Largest share of the free disk that features may take."""

CHANGES = ("augmentation", "crop_size", "batch_size", "stain_jitter", "pen_marks")
"""Knobs that `centred_probe.yaml` sets so that every epoch sees the same images, whose features are then the same."""


def feature_folder(run: Path, data: TrainingData, *, learner: Learner, chosen: Mapping[str, Any]) -> Path | None:
    """Choose the folder for the features of a training; None: it computes them each time.

    They are kept where a layer on pretrained features learns from images that no knob changes, and the disk has room.

    Args:
        run: the run folder.
        chosen: knobs of the request.
    """
    changed = any(name in chosen for name in CHANGES) or METHODS[chosen.get("supervision", "cvm")].changes_images
    if learner == "network" or changed:
        return None
    knobs = {"scale": chosen.get("scale", TRAINABLE["scale"].default), "mpp": data.mpp, "pairs": data.pairs}
    datalist = read_datalist(data.folder)
    size = sum(sized(case, knobs, datalist.classes).pixels for case in datalist.cases) * BYTES
    return run / FOLDER if size <= DISK_SHARE * shutil.disk_usage(run).free else None


def remove_features(runs: Path) -> None:
    """Delete the kept features of all run folders in `runs`."""
    for folder in runs.glob(f"*/{FOLDER}"):
        shutil.rmtree(folder, ignore_errors=True)
