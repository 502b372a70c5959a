"""What every interactive program needs to start the bundle's own training as a command, in a folder of its own."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cvm_monai.bundle_files import config_file
from cvm_monai.errors import CvmError
from cvm_monai.interactive.cold_start import cold_kind
from cvm_monai.knob_kinds import Choice, Knob, Number, Whole
from cvm_monai.knobs import TRAINING
from cvm_monai.networks.extractor_names import IMAGENET

OWN = ("fold", "classes", "val_interval")
"""Knobs that the annotated images determine."""

TRAINABLE: Mapping[str, Knob] = {
    name: knob
    for name, knob in TRAINING.items()
    if knob.role == "science" and isinstance(knob.kind, Choice | Whole | Number) and name not in OWN
}
"""Knobs of a training that a request may set: numbers and known words, since a configuration executes text with `$`."""

Learner = Literal["network", "pretrained"]
"""What a training fits: `network`, the U-Net of the configuration; `pretrained`, one layer on pretrained features
(`centred_probe.yaml`)."""

QUIET = ("-W", "ignore::UserWarning:monai.bundle.scripts")
"""Options of Python: MONAI warns at each start that configurations execute code, and this one is the project's own."""


def training_configuration(bundle: Path) -> Path:
    """Find the bundle's configuration of a training.

    Raises:
        CvmError: there is none.
    """
    config = config_file(bundle / "configs", "train")
    if not config.is_file():
        raise CvmError(f"there is no bundle to train with at {bundle}: give --conf bundle DIR")
    return config


def learner_configuration(config: Path, learner: Learner) -> Path | None:
    """Find the configuration that stands behind that of a training; None: the defaults.

    Raises:
        CvmError: the learner's pretrained features are not installed, or the bundle is older than it.
    """
    if learner == "network":
        return None
    if cold_kind() != IMAGENET:
        raise CvmError("pretrained features are not installed: pip install 'cvm-monai[pretrained]'")
    behind = config_file(config.parent, "centred_probe")
    if not behind.is_file():
        raise CvmError(f"the bundle has no {behind}: take the bundle of this version")
    return behind


def bundle_command(run_id: str, config: str | Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the words of `python -m monai.bundle run` with overrides of the configuration."""
    files = config if isinstance(config, str) else repr(list(config))
    words = [sys.executable, *QUIET, "-m", "monai.bundle", "run", run_id, "--config_file", files]
    return words + [word for name, value in values.items() for word in (f"--{name}", as_word(value))]


def as_word(value: Any) -> str:
    """Format a value so that python-fire parses it back."""
    return value if isinstance(value, str) else repr(value)


def training_environment() -> dict[str, str]:
    """Return the environment of a training: one thread unless told otherwise, and output line by line."""
    return os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def new_run_folder(runs: Path) -> Path:
    """Create a new folder named by the time.

    Raises:
        CvmError: it cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = runs / (stamp if number == 0 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise CvmError(f"no new folder can be made in {runs}")
