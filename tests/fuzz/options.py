"""Good inputs, and one option with a value that it cannot have."""

import shutil
from pathlib import Path

import numpy as np

from .job import Job, chosen

VALUES = (
    "", " ", "nan", "inf", "-inf", "-1", "0", "0.5", "1e999", "1e308", "1e-308", "2147483648", "9" * 30, "9" * 5000,
    "x", "ä", "../x", "/dev/null/x", "x" * 5000, "None", "True", "[]", "{}", "1,2", "1/2", "0/0", "3/2", "-1/2",
    "1/0", "\u0661", "1_0", "0x10", "'", '"', "$nothing", "@nothing", "--", "-", "/", ".", "\ud800", "a b", "x=y",
    "a:b:c", "sqlite:///", "sqlite:////nowhere/x.db", "http://127.0.0.1:9", "ftp://x", "file:///x", "none", "cuda:99",
    "nothing", "aos:0:0", "aos:1e9:nan", "aos:" + "9" * 5000 + ":1",
)  # fmt: skip
"""Words that a shell can pass on."""

OPTIONS = {
    "phantom": ("--cases", "--size", "--seed", "--classes"),
    "prepare": ("--pairs", "--folds", "--seed", "--classes", "--unclassified", "--outside", "--mpp", "--tile",
                "--image_mpp", "--tissue_tiles"),
    "camelyon16": ("--size", "--mpp", "--crops_per_slide", "--pairs", "--folds", "--seed", "--classes",
                   "--unclassified", "--image_mpp"),
    "compare": ("--methods", "--folds", "--seeds", "--only", "--jobs", "--pairs", "--setting", "--bundle",
                "--tracking_uri", "--extractor_path", "--extractor_weights", "--network", "--train#x", "--nothing",
                "--max_epochs"),
    "ablate": ("--what", "--values", "--folds", "--seeds", "--only", "--jobs", "--pairs", "--setting", "--bundle"),
    "predict": ("--shard", "--shard", "--shard", "--mpp", "--model_mpp", "--tissue", "--window", "--overlap",
                "--batch_size", "--num_workers", "--device", "--ensemble", "--min_area_um2", "--simplify_um"),
    "register": ("--name", "--alias", "--promote_if_better", "--tracking_uri", "--stain", "--bundle"),
    "export": (),
    "export-bundle": ("--model", "--bundle"),
    "sync-tracking": (),
    "doctor": ("--config_file", "--seed", "--network", "--network_channels", "--tracking_uri", "--output_dir",
               "--train#x", "--device", "--crop_size", "--knobs", "--eta", "--point_size", "--nothing"),
}  # fmt: skip
"""By command: the options that take a value."""


def options(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A command whose inputs are good, but for one option, or a word too many."""
    from .cases import folder_of_images, folder_of_slides

    inputs, out = root / "input", root / "out"
    command = chosen(rng, list(OPTIONS))
    if command == "prepare":
        folder_of_images(rng, root)
    elif command in ("camelyon16", "predict"):
        folder_of_slides(rng, root, ".xml")
    else:
        shutil.copytree(training / "data", inputs)
    words = {
        "phantom": (str(out), "--cases", "4", "--size", "64"),
        "prepare": (str(inputs), "--output", str(out)),
        "camelyon16": (f"{inputs}/slides", f"{inputs}/points", "--output", str(out), "--size", "64", "--folds", "2"),
        "compare": (str(inputs), "--output", str(out), "--jobs", "1", "--methods", "cvm"),
        "ablate": (str(inputs), "--output", str(out), "--jobs", "1", "--what", "eta"),
        "predict": (f"{inputs}/slides", "--model", str(training), "--output", str(out), "--device", "cpu",
                    "--num_workers", "0", "--window", "64", "--tissue", "none", "--mpp", "0.5"),
        "register": (str(training),),
        "export": (str(training), chosen(rng, VALUES[1:])),
        "export-bundle": (chosen(rng, (f"{out}/b.zip", *VALUES)), "--model", str(training)),
        "sync-tracking": (chosen(rng, VALUES),),
        "doctor": (str(inputs),),
    }[command]  # fmt: skip
    if OPTIONS[command] and rng.random() < 0.95:
        words = (*words, chosen(rng, OPTIONS[command]), chosen(rng, VALUES))
    return Job((command, *words), inputs)


def shards(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """Slides of which one is broken, shared out; sometimes no share that there is."""
    from .cases import break_slide, good_slide, predict

    folder = root / "input" / "slides"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.tif").write_bytes(good_slide(rng))
    break_slide(rng, folder / "a.tif")
    share = chosen(rng, ("1/1", "1/2", "2/2", "1/3", "2/3", "3/3", "5/9", "01/02", *VALUES))
    return predict(root, training, "--tissue", "none", "--mpp", "0.5", "--shard", share)
