"""Broken configurations, looked at by the doctor, exported, and compared with."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.bundle_files import read_config
from cvm_monai.knobs import TRAINING

from .broken_configs import broken_config, wrong_knob
from .job import Job, chosen

BUNDLE = Path(__file__).parents[2] / "bundle"
SMALL = {
    "network": "unet",
    "network_channels": [4, 8, 8, 8, 8],
    "crop_size": 64,
    "iterations": 5,
    "device": "cpu",
    "amp": False,
    "max_epochs": 1,
}
"""So that what is made of a configuration that works takes no time."""


def small_bundle(root: Path) -> Path:
    """A bundle of quick configurations, its scripts the real ones."""
    bundle = root / "input" / "bundle"
    shutil.copytree(BUNDLE / "configs", bundle / "configs")
    (bundle / "scripts").symlink_to(BUNDLE / "scripts")
    train = bundle / "configs" / "train.yaml"
    train.write_text(json.dumps(read(train) | SMALL))  # which is YAML too
    return bundle


def read(file: Path) -> dict[str, Any]:
    """A good configuration."""
    return read_config(file)


def knobs_of(config: dict[str, Any]) -> list[str]:
    """The knobs that stand at the top of a configuration."""
    return [name for name in TRAINING if name in config]


def broken_file(rng: np.random.Generator, file: Path) -> Path:
    """The configuration broken in its place, perhaps as YAML beside it, or a folder, or nothing there."""
    good, chance = read(file), rng.random()
    file.unlink()
    if chance < 0.02:
        return file
    if chance < 0.05:
        file.mkdir()
        return file
    if chance < 0.3 and "knobs" in good:
        _, data = wrong_knob(rng, good, knobs_of(good))
        file.write_bytes(data)
        return file
    suffix, data = broken_config(rng, good)
    file = file.with_suffix(suffix)
    file.write_bytes(data)
    return file


def configurations(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken configuration, looked at by the doctor, perhaps with a knob of the user's, perhaps tried out."""
    bundle = small_bundle(root)
    shutil.copytree(training / "data", root / "input" / "data")
    name = "train.yaml" if rng.random() < 0.85 else chosen(rng, ("inference.yaml", "metadata.json", "evaluate.yaml"))
    file = broken_file(rng, bundle / "configs" / name)
    more = ("--seed", "1") if rng.random() < 0.2 else ()
    tried = ("--dry_run",) if rng.random() < 0.3 else ()
    argv = ("doctor", str(root / "input" / "data"), "--config_file", str(file), *more, *tried)
    return Job(argv, root / "input")


def bundles(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A bundle with one broken configuration that is exported, registered, or compared with."""
    bundle = small_bundle(root)
    shutil.copytree(training, root / "input" / "run")
    names = [file.name for file in sorted((bundle / "configs").iterdir()) if file.suffix != ".conf"]
    name = "train.yaml" if rng.random() < 0.4 else chosen(rng, names)
    broken_file(rng, bundle / "configs" / name)
    run, data, out = (str(root / part) for part in ("input/run", "input/run/data", "out"))
    argv = [
        ("export-bundle", f"{out}/b.zip", "--model", run),
        ("export-bundle", f"{out}/b.zip", "--model", run),
        ("compare", data, "--output", out, "--methods", "cvm", "--jobs", "1", "--tracking_uri", "none"),
        ("ablate", data, "--output", out, "--what", chosen(rng, ("eta", "pairs", "solver")), "--tracking_uri", "none"),
    ][rng.integers(4)]
    return Job((*argv, "--bundle", str(bundle)), root / "input")
