"""``cvm-monai register``: register a trained network as a version in MLflow's model registry."""

import argparse
import os
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Log the network of a training as one MLflow model, register it as a version, and set an alias.

RUN is the run folder of a training that `evaluating` has scored. The store is --tracking_uri, else
MLFLOW_TRACKING_URI, else the training's own database; a server works the same. The model holds weights, configurations
and the package's code, no pickle. Then:

  mlflow.pyfunc.load_model("models:/cvm@candidate").predict([{"image": array}])
  mlflow models serve -m models:/cvm@candidate --env-manager local
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "register",
        help="register a trained network in MLflow's model registry",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="RUN", help="run folder of an evaluated training")
    parser.add_argument("--name", default="cvm", help="name of the registered model (default cvm)")
    parser.add_argument("--alias", default="candidate", help="alias of the new version (default candidate)")
    parser.add_argument(
        "--promote_if_better",
        metavar="METRIC",
        help="make it @champion where this test value, such as dice, is better than the champion's on the same data",
    )
    parser.add_argument("--tracking_uri", metavar="URI", help="the store: sqlite:////path/mlruns.db, or a server")
    parser.add_argument("--stain", default="not stated", help="the images' stain, such as H&E, for a tag")
    parser.add_argument("--bundle", metavar="DIR", help="the MONAI bundle (default the package's own)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Register the training and print the decision."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from cvm_monai.registry import RegistrationRequest, register

    done = register(
        RegistrationRequest(
            output=Path(arguments.output),
            name=arguments.name,
            alias=arguments.alias,
            promote=arguments.promote_if_better,
            tracking_uri=arguments.tracking_uri,
            stain=arguments.stain,
            bundle=None if arguments.bundle is None else Path(arguments.bundle),
        )
    )
    print(f"registered {done.name} version {done.version} as {done.uri} in {done.tracking_uri}")
    if done.decision is not None:
        print(done.decision.sentence)
    return 0
