"""``cvm-monai export-bundle``: write a bundle that runs where this package is not installed."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Write the network of a training as a self-contained MONAI bundle: configurations, weights, card, and the package's code
inside scripts/. Where MONAI and the packages that its metadata list are installed,

  unzip OUT.zip && python -m monai.bundle run inference --config_file OUT/configs/inference.yaml --dataset_dir IMAGES
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "export-bundle",
        help="write a trained network as a self-contained bundle",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        renamed={"output_dir": "model"},
    )
    parser.add_argument("target", metavar="OUT.zip", help="the file to write; its name is the bundle's")
    parser.add_argument("--model", metavar="RUN", help="run folder of the training (default bundle/eval)")
    parser.add_argument("--bundle", metavar="DIR", help="the MONAI bundle (default the package's own)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export the bundle."""
    from cvm_monai.bundle_files import checked_bundle
    from cvm_monai.registry.bundle_zip import export_bundle
    from cvm_monai.runs import RUN_FILE, OutputRecord

    record = OutputRecord.of_command("export-bundle", arguments)
    bundle = checked_bundle(None if arguments.bundle is None else Path(arguments.bundle))
    output = bundle / "eval" if arguments.model is None else Path(arguments.model)
    target = export_bundle(output, arguments.target, bundle=bundle)
    record.write_beside(target, data={target.name: target, RUN_FILE: output / RUN_FILE})
    print(f"wrote {target}")
    return 0
