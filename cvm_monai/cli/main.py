"""``cvm-monai``: parse the command line, run the command, turn failures into exit codes."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from cvm_monai import __version__
from cvm_monai.cli import (
    ablate,
    annotate,
    camelyon16,
    compare,
    doctor,
    export,
    export_bundle,
    label_app,
    phantom,
    predict,
    prepare,
    register,
    sync_tracking,
)
from cvm_monai.cli.parser import CommandParser
from cvm_monai.errors import CvmError

COMMANDS: tuple[ModuleType, ...] = (
    phantom,
    prepare,
    annotate,
    camelyon16,
    compare,
    ablate,
    predict,
    register,
    export,
    export_bundle,
    label_app,
    sync_tracking,
    doctor,
)
"""A command is a module with ``add_parser(commands)``, which sets ``run``: arguments -> exit code."""

EPILOG = """\
first steps:
  cvm-monai doctor                      check the installation
  cvm-monai phantom data/phantom        an example data set, made in seconds
  cvm-monai annotate MY_FOLDER          click points on your own images in the browser, and train
  cvm-monai prepare MY_FOLDER --output OUT   your own images and points; slides: --mpp 0.5 --tile 1024
  python -m monai.bundle run training --config_file bundle/configs/train.yaml --dataset_dir OUT
  cvm-monai predict SLIDE --model bundle/eval --output SLIDES   whole slides, for QuPath
  cvm-monai compare OUT --output RUNS   every method on every fold, and a report
"""

USAGE_ERROR = 2
INTERRUPTED = 130
SHOWN = 20
"""Maximal number of warnings printed with an error; the rest is counted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 = done, 1 = done with a negative result, 2 = error on stderr, 130 = interrupted."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own message reports a bad file
    try:
        arguments = _arguments(argv)
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help, --version, usage errors
        return stop.code if isinstance(stop.code, int) else USAGE_ERROR
    except KeyboardInterrupt:
        print("cvm-monai: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except ModuleNotFoundError as error:
        return _fail(f"the package {error.name} is missing: `cvm-monai doctor` says how to install what is needed")
    except MemoryError as error:
        return _fail(f"there is not enough memory ({str(error) or 'MemoryError'}): take smaller images or tiles")
    except CvmError as error:
        return _fail(str(error), warnings=getattr(error, "__notes__", ()))


def _fail(sentence: str, *, warnings: Sequence[str] = ()) -> int:
    for warning in warnings[:SHOWN]:
        print(f"cvm-monai: warning: {' '.join(warning.split())}", file=sys.stderr)
    if len(warnings) > SHOWN:
        print(f"cvm-monai: warning: and {len(warnings) - SHOWN} more", file=sys.stderr)
    print(f"cvm-monai: error: {' '.join(sentence.split())}", file=sys.stderr)
    return USAGE_ERROR


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; a command that sets `further` also gets those that its parser does not know."""
    parser = _parser()
    arguments, further = parser.parse_known_args(argv)
    if further and not hasattr(arguments, "further"):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    if further:
        arguments.further = tuple(further)
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="cvm-monai",
        description="Segmentation of histopathology images, trained on a few clicks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cvm-monai {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
