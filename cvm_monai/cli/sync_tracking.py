"""``cvm-monai sync-tracking``: what MLflow could not be told while a training ran, sent now."""

import argparse
from typing import Any

DESCRIPTION = """\
Send to MLflow what waits in OUTPUT_DIR/mlflow_outbox.jsonl.

A training goes on while the MLflow server is away: parameters, metrics, tags and files wait in that file and are sent
when it is back. Where it was still away at the end, this sends them later.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "sync-tracking",
        help="send to MLflow what a training could not while it was away",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="OUTPUT_DIR", help="output folder of a training")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send, and say how much it was."""
    from cvm_monai.engines.tracking import send_waiting

    print(f"sent {send_waiting(arguments.output)} entries to MLflow")
    return 0
