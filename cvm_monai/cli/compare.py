"""``cvm-monai compare``: the paper's Table 1 on any data set."""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvm_monai.experiments.compare import Result
    from cvm_monai.runs import OutputRecord

DESCRIPTION = """\
Train and evaluate every method on every fold, and write tables, paired statistics, figures and one page about them.

DIR is a data set of `cvm-monai prepare` or `phantom`, or a folder of your own, which is then prepared. Every further
--knob VALUE goes to each training: --max_epochs 20 --scale 0.5 --network unet. The same command again does what is
missing, and reports.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "compare",
        help="train all methods on all folds, and report",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --seed would be taken for --seeds
        usage="cvm-monai compare DIR --output OUT [options] [--knob VALUE ...]",
    )
    add_place(parser)
    parser.add_argument("--methods", default="all", metavar="all|a,b,c", help="what to compare (default all)")
    add_runs(parser)
    parser.set_defaults(run=run, further=())


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of input and output."""
    parser.add_argument("folder", metavar="DIR", help="the data set; nothing is written there")
    parser.add_argument("--output", required=True, metavar="OUT", help="folder for the data list, runs and report")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the trainings of each arm."""
    parser.add_argument("--folds", type=int, default=4, help="number of folds, by patient (default 4)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each fold, with seeds 0 to N-1 (default 1)")
    parser.add_argument("--only", metavar="0,1", help="test these folds only")
    parser.add_argument("--jobs", type=int, help="runs at once (default half the cores, as memory allows; 1 on a GPU)")
    parser.add_argument("--pairs", type=int, help="points of each class that are used, and sampled (default 5)")
    parser.add_argument("--setting", metavar="FILE", help="configuration of knobs, such as bundle/configs/paper.yaml")
    parser.add_argument("--shard", metavar="K/N", help="do this part of the runs, for array jobs, and report nothing")
    parser.add_argument("--report", action="store_true", help="train nothing, report when all runs are finished")
    parser.add_argument("--bundle", metavar="DIR", help="the MONAI bundle (default the one beside this package)")


def run(arguments: argparse.Namespace) -> int:
    """Run the comparison; returns 1 where a run failed."""
    from cvm_monai.experiments.compare import ComparisonRequest, compare
    from cvm_monai.experiments.execute import processes_for
    from cvm_monai.runs import OutputRecord

    record = OutputRecord.of_command("compare", arguments)
    request = ComparisonRequest(**setup_of(arguments), methods=arguments.methods)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the current runs as Ctrl-C does
    result = compare(request, execute=processes_for(request.jobs), say=partial(print, flush=True))
    return tell(result, request.output / "table1.md", record)


def setup_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build the `Setup` from the arguments."""
    from cvm_monai.experiments.execute import default_jobs

    pairs = [] if arguments.pairs is None else ["--pairs", str(arguments.pairs)]
    return {
        "folder": Path(arguments.folder),
        "output": Path(arguments.output),
        "folds": arguments.folds,
        "seeds": arguments.seeds,
        "only": arguments.only,
        "jobs": default_jobs() if arguments.jobs is None else arguments.jobs,
        "bundle": None if arguments.bundle is None else Path(arguments.bundle),
        "knobs": (*pairs, *arguments.further),
        "setting": None if arguments.setting is None else Path(arguments.setting),
        "shard": arguments.shard,
        "report": arguments.report,
    }


def tell(result: "Result", table: Path, record: "OutputRecord") -> int:
    """Write the record beside the table and print the result and its files; returns 1 where a run failed.

    A shard has no files yet, and leaves the record to the report.
    """
    if result.files:
        record.write(table.parent, data={result.datalist.name: result.datalist})
        print(table.read_text(encoding="utf-8"))
        print("\n".join(f"wrote {file}" for file in result.files))
    if result.failed:
        count = f"{result.failed} run{'s' * (result.failed != 1)} failed"
        print(f"{count}: the report says why, the same command tries again", file=sys.stderr)
    return int(result.failed > 0)
