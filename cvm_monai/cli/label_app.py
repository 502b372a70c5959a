"""``cvm-monai label-app``: print the folder of the MONAI Label app."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError

DESCRIPTION = """\
Print the folder of the MONAI Label app, and nothing else:

  make label-env                  MONAI Label needs an environment of its own
  .venv-label/bin/monailabel start_server --app $(cvm-monai label-app) --studies DIR

MONAI Label writes its log into that folder. Where the package cannot be written, give --output for a small folder of
your own that starts the same app.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "label-app",
        help="print the folder of the MONAI Label app",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", metavar="DIR", help="write the app's main.py there and print DIR instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the folder."""
    folder = Path(__file__).resolve().parents[1] / "label_app"
    if arguments.output is not None:
        folder = _copied(folder / "main.py", Path(arguments.output))
    sys.stdout.write(f"{folder}\n")
    return 0


def _copied(main: Path, out: Path) -> Path:
    """Copy main.py into the folder; returns the folder.

    Raises:
        CvmError: the folder has another main.py.
    """
    target, text = out / "main.py", main.read_text(encoding="utf-8")
    if target.exists() and target.read_bytes() != text.encode():
        raise CvmError(f"{target} is another file: give another --output")
    out.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return out.resolve()
