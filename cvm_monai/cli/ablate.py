"""``cvm-monai ablate``: vary one choice of the method and compare the results."""

import argparse
import signal
from functools import partial
from typing import Any

from cvm_monai.cli.compare import add_place, add_runs, setup_of, tell

DESCRIPTION = """\
Vary one choice of the method, train and evaluate each value on every fold, and write a table, a plot with error bars,
paired statistics and one page about them. What is varied:

  pairs   points of each class: 1, 2, 3, 5; with the weighted KL, with cross-entropy to u > 0.5, and points alone
  eta     strength of the subtraction in the contrast maps: 0, 0.3, 0.6, 0.9
  solver  solver, iterations and lam, as aos:50:0.5

DIR is as for `compare`; where points are sampled, as many as the largest number of pairs. Every further --knob VALUE
goes to each training. The same command again does what is missing, and reports.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "ablate",
        help="vary pairs of points, eta or the solver, and report",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --seed would be taken for --seeds
        usage="cvm-monai ablate DIR --what pairs|eta|solver --output OUT [options] [--knob VALUE ...]",
    )
    add_place(parser)
    parser.add_argument("--what", required=True, metavar="pairs|eta|solver", help="the choice that is varied")
    parser.add_argument("--values", metavar="1,2,5", help="other values than those above")
    add_runs(parser)
    parser.set_defaults(run=run, further=())


def run(arguments: argparse.Namespace) -> int:
    """Run the ablation; returns 1 where a run failed."""
    from cvm_monai.experiments.ablation import AblationRequest, ablate
    from cvm_monai.experiments.execute import processes_for
    from cvm_monai.runs import OutputRecord

    record = OutputRecord.of_command("ablate", arguments)
    request = AblationRequest(**setup_of(arguments), what=arguments.what, values=arguments.values)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the current runs as Ctrl-C does
    result = ablate(request, execute=processes_for(request.jobs), say=partial(print, flush=True))
    return tell(result, request.output / "ablation.md", record)
