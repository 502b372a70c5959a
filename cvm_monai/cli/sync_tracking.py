"""``cvm-monai sync-tracking``: send to MLflow what a training stored while the server did not answer."""

import argparse
from typing import Any

DESCRIPTION = """\
Send the contents of RUN/mlflow_outbox.jsonl to MLflow.

A training writes parameters, metrics, tags and files there first, and removes them when MLflow has them. It continues
while the MLflow server does not answer, and sends what waits when it answers again. If it still did not answer at the
end, this command sends the rest later.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "sync-tracking",
        help="send to MLflow what a training stored while the server did not answer",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="RUN", help="run folder of a training")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send the stored entries and print their number."""
    from cvm_monai.runs.tracking import send_waiting

    print(f"sent {send_waiting(arguments.output)} entries to MLflow")
    return 0
