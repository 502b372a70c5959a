"""Record of a command's options and outputs."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvm_monai.provenance import OutputRecord


def begin_record(kind: str, arguments: argparse.Namespace) -> "OutputRecord":
    """Begin a record now, with all of a command's options as its configuration."""
    from cvm_monai.provenance import OutputRecord

    options = {name: value for name, value in vars(arguments).items() if name != "run"}
    return OutputRecord(kind, configuration=options, seed=options.get("seed"))
