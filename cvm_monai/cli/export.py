"""``cvm-monai export``: write the bare network for other runtimes."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "export",
        help="write a trained network as ONNX or .pt2",
        description="Write the network of a training for other runtimes; any image and batch size.",
    )
    parser.add_argument("output", metavar="RUN", help="run folder of a finished training")
    parser.add_argument("targets", metavar="FILE", nargs="+", help="files to write, ending in .onnx or .pt2")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export the network."""
    from cvm_monai.registry.exports import export_network
    from cvm_monai.runs import RUN_FILE, OutputRecord

    record = OutputRecord.of_command("export", arguments)
    for path in export_network(arguments.output, *arguments.targets):
        record.write_beside(path, data={path.name: path, RUN_FILE: Path(arguments.output, RUN_FILE)})
        print(f"wrote {path}")
    return 0
