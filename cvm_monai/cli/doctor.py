"""``cvm-monai doctor``: check the installation and estimate the cost of a training."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvm_monai.doctor.finding import Finding
from cvm_monai.errors import CvmError
from cvm_monai.knobs import TRAINING

if TYPE_CHECKING:
    from cvm_monai.doctor.rehearsal import Rehearsal

DESCRIPTION = """\
Check Python, packages, device, memory, OpenSlide, disk, the data set, the MLflow store and the configuration: a line
for each, PASS, WARN or FAIL, with the remedy. The exit code is 1 where something fails.

--dry_run then trains two epochs of three steps on a few images, with validation, pseudo-labels and one inference, in a
folder that is removed, and says what time and memory the whole training will take. --knob VALUE are those of the
training: --network unet --crop_size 256 --batch_size 4 --supervision partial_ce --device cpu.
"""

OWN = {
    "dataset_dir": "give the data set as DIR",
    "parent_run_id": "it belongs to comparisons",
    "run_name": "nothing is kept",
}
"""Knobs that are refused, and why."""

OPTIONS = ("dry_run", "config_file")
"""The command's own options, suggested where one is misspelt."""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "doctor",
        help="say what is installed, what is missing, and how to fix it",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # further options are knobs of the training
        usage="cvm-monai doctor [DIR] [--dry_run] [--config_file FILE] [--knob VALUE ...]",
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", default="data/phantom", help="data set (%(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="run a few steps and estimate the whole training")
    parser.add_argument("--config_file", metavar="FILE", help="configuration (default the bundle's train.yaml)")
    parser.set_defaults(run=run, further=())


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each finding, then the dry run; returns 1 where something fails."""
    folder, config, knobs = Path(arguments.folder), _config(arguments), _knobs(arguments)
    failed = False
    for finding in examine(folder, config, knobs):
        failed |= show(finding)
    if not arguments.dry_run:
        return int(failed)
    if failed:
        print("no dry run until that is fixed")
        return 1
    return int(show(report(rehearsal(folder, config, knobs))))


def show(finding: Finding) -> bool:
    """Print a finding; returns whether it is a failure."""
    print(f"{finding.status}  {finding.name}: {finding.detail}", flush=True)
    if finding.remedy:
        print(f"      fix: {finding.remedy}", flush=True)
    return finding.status == "FAIL"


def examine(folder: Path, config: Path, knobs: Mapping[str, Any]) -> Iterator[Finding]:
    """Run all checks, the quick ones first; skip those that need torch where torch or a package fails."""
    from cvm_monai.doctor.machine import check_disk, examine_machine
    from cvm_monai.doctor.project import check_config, check_data, check_store

    whole = True
    for finding in examine_machine(None if "device" not in knobs else str(knobs["device"])):
        whole &= finding.status != "FAIL"
        yield finding
    data = check_data(folder)
    yield data
    output = Path(knobs.get("output_dir") or config.parent.parent / "eval")
    yield check_disk(output)
    if whole:
        yield check_store(knobs.get("tracking_uri"), output=output)
    if whole and data.status == "PASS":
        yield check_config(config, dataset=folder, knobs=knobs)


def rehearsal(folder: Path, config: Path, knobs: Mapping[str, Any]) -> "Rehearsal":
    """Run the dry run; `output_dir` is ignored, nothing is written there.

    Raises:
        CvmError: no data set, or any input that the training would refuse.
    """
    from cvm_monai.data.datalist import FILE_NAME

    if not (folder / FILE_NAME).is_file():
        raise CvmError(f"a dry run needs a data set, and there is none in {folder}: give its folder as DIR")
    from cvm_monai.doctor.rehearsal import rehearse

    kept = {name: value for name, value in knobs.items() if name != "output_dir"}
    return rehearse(config, dataset=folder, knobs=kept)


def report(found: "Rehearsal") -> Finding:
    """Print the dry run's measurements; returns the finding whether the real training fits into free memory."""
    from cvm_monai.doctor.estimate import duration, table
    from cvm_monai.doctor.machine import available_memory

    counts = found.counts
    print(f"\nDry run on {found.device}\n{table(found.stages)}\n")
    fewest, most = duration(found.fewest), duration(found.most)
    few, many = counts.renewals
    sizes = f"{counts.max_epochs} epochs on {counts.train_images} images, validated on {counts.validation_images}"
    if many > few:
        print(f"The whole training, {sizes}: at most {most}, at least {fewest}")
        print(
            f"  Pseudo-labels are renewed at each new low of the validation loss: {many} times where it falls to the "
            f"end (count on {most}), {few} where it soon stops falling ({fewest})"
        )
    else:
        print(f"The whole training, {sizes}: {most}")
    if found.images:
        print(f"  {found.images[0].upper()}{found.images[1:]}")
    gpu = "" if found.gpu_mib is None else f", {found.gpu_mib / 2**10:.1f} GiB on the GPU"
    detail = f"the whole training takes {found.memory_mib / 2**10:.1f} GiB{gpu}"
    free = available_memory()
    if free is not None and found.memory_mib * 2**20 > free:
        remedy = f"smaller images (--scale), fewer of them, or close other programs: {free / 2**30:.1f} GiB are free"
        return Finding("memory", "WARN", detail, remedy)
    return Finding("memory", "PASS", detail)


def _config(arguments: argparse.Namespace) -> Path:
    """Find the configuration's file.

    Raises:
        CvmError: a missing file, or no bundle.
    """
    from cvm_monai.bundle_files import checked_bundle, config_file, named_otherwise

    if arguments.config_file is None:
        return config_file(checked_bundle() / "configs", "train")
    file = Path(arguments.config_file)
    if advice := named_otherwise(file):
        raise CvmError(f"--config_file {advice}")
    if not file.is_file():
        raise CvmError(f"--config_file {file} does not exist: give a configuration such as bundle/configs/train.yaml")
    return file.resolve()


def _knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Parse the knobs' values and check them against the configuration.

    Raises:
        CvmError: as `read_words`, or a configuration that cannot be read.
    """
    from cvm_monai.bundle_files import read_config
    from cvm_monai.experiments.knobs import read_words, value_of

    config = read_config(_config(arguments))
    words = read_words(arguments.further, config, own=OWN, command="doctor", options=OPTIONS)
    knobs = {name: value_of(text) for name, text in words.items()}
    for name in ("output_dir", "tracking_uri"):  # checked before the configuration is read
        if knobs.get(name) is not None:
            TRAINING[name].check(knobs[name])
    return knobs
