"""The bundle's own commands for a run."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvm_monai.configs import config_file
from cvm_monai.experiments.plan import Run
from cvm_monai.place import as_entry

QUIET = ("-W", "ignore::UserWarning:monai.bundle.scripts")
"""MONAI warns at each start that configurations execute code: this one is the project's own."""


@dataclass(frozen=True)
class Place:
    """Where runs find what they need: bundle and data set, MLflow's address, and the MLflow run that they belong to."""

    bundle: Path
    dataset: Path
    tracking_uri: str
    parent_run_id: str | None = None


def training_words(run: Run, place: Place) -> list[str]:
    """What follows `python` to train."""
    words = [
        "-m",
        "monai.bundle",
        "run",
        "training",
        "--config_file",
        str(config_file(place.bundle / "configs", "train")),
    ]
    words += ["--dataset_dir", as_entry(place.dataset), "--output_dir", as_entry(run.folder)]
    words += ["--fold", str(run.fold), "--seed", str(run.seed), *_options(run, nested=True)]
    words += ["--tracking_uri", place.tracking_uri]
    return words + (["--parent_run_id", place.parent_run_id] if place.parent_run_id else [])


def evaluating_words(run: Run, place: Place) -> list[str]:
    """What follows `python` to score the test fold; inner parts that were changed for the training stay out."""
    configs = [str(config_file(place.bundle / "configs", name)) for name in ("train", "evaluate")]
    words = ["-m", "monai.bundle", "run", "evaluating", "--config_file", str(configs)]
    return [
        *words,
        "--output_dir",
        as_entry(run.folder),
        *_options(run, nested=False),
        "--tracking_uri",
        place.tracking_uri,
    ]


def runnable(words: Sequence[str]) -> list[str]:
    """The command as it is executed."""
    return [sys.executable, *QUIET, *words]


def shown(words: Sequence[str]) -> str:
    """The command as a person would type it."""
    return shlex.join(["python", *words])


def _options(run: Run, *, nested: bool) -> list[str]:
    chosen = {name: value for name, value in run.knobs.items() if nested or "#" not in name}
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]
