"""``cvm-monai phantom``: draw an example data set with exact masks."""

import argparse
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError

FOLDS = 4
PAIRS = 5


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "phantom",
        help="make an example data set, ready for training",
        description="Draw H&E-like images with exact masks, sample 5 points of each class, write OUT/datalist.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("output", metavar="OUT", help="folder to write, usually data/phantom")
    parser.add_argument("--cases", type=int, default=24, help="number of images")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images")
    parser.add_argument(
        "--classes", type=int, default=2, help="3 adds lymphoid aggregates as a second foreground class"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate the images and prepare the data set in the same folder.

    A small phantom has as many patients as folds, so that it can be trained on.
    """
    from cvm_monai.data.datalist import FILE_NAME
    from cvm_monai.data.phantom import PHANTOM_CLASSES, generate_phantom
    from cvm_monai.data.prepare import prepare
    from cvm_monai.runs import OutputRecord

    cases, out = arguments.cases, Path(arguments.output)
    if cases < FOLDS:
        raise CvmError(f"{cases} cases cannot be spread over {FOLDS} folds: give at least --cases {FOLDS}")
    record = OutputRecord.of_command("phantom", arguments)
    patients = None if cases > 2 * FOLDS else FOLDS
    classes = arguments.classes
    generate_phantom(out, cases=cases, size=arguments.size, seed=arguments.seed, patients=patients, classes=classes)
    print(prepare(out, out=out, pairs=PAIRS, folds=FOLDS, seed=arguments.seed, classes=PHANTOM_CLASSES[classes]))
    record.write(out, data={FILE_NAME: out / FILE_NAME})
    return 0
