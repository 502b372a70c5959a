"""Table 1 from one call: prepare, train and evaluate what is missing, report."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvm_monai.data.datalist import DataList, read_datalist
from cvm_monai.engines.workflow import bundle_root
from cvm_monai.experiments.commands import Place, shown, training_words
from cvm_monai.experiments.dataset import check_folds, comparison_dataset
from cvm_monai.experiments.execute import Executor
from cvm_monai.experiments.knobs import configuration, parse_knobs, read_train_config, value_of
from cvm_monai.experiments.plan import UPPER, Run, parse_methods, parse_only, plan_runs
from cvm_monai.experiments.report import Comparison, write_report
from cvm_monai.experiments.schedule import run_all
from cvm_monai.experiments.state import run_state
from cvm_monai.experiments.tracking import ParentRun
from cvm_monai.networks.frozen import FrozenExtractor


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        folder: a prepared data set, or a user's folder.
        output: gets all that is written.
        methods: `all`, or names with commas between them.
        folds: by patient, from 2; more leave more cases for training and cost as many more runs.
        seeds: 0 to seeds - 1; more tell luck from skill.
        only: folds to test, with commas between them; None: all.
        pairs: points sampled of each class where a folder is prepared.
        jobs: runs at once.
        bundle: the MONAI bundle's folder; None: the one beside this package.
        knobs: words of further knobs of the training.
    """

    folder: Path
    output: Path
    methods: str = "all"
    folds: int = 4
    seeds: int = 1
    only: str | None = None
    pairs: int = 5
    jobs: int = 1
    bundle: Path | None = None
    knobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of it: files to look at, runs that failed."""

    files: tuple[Path, ...]
    failed: int


def compare(request: Request, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Run what is not finished yet and report; everything that can be refused is refused before the first training.

    Raises:
        ValueError: a wrong option or knob, a data set that cannot be compared on, an output folder that cannot be
            written or is in use, a finished run of another configuration, or no run that finished.
    """
    bundle = (request.bundle or Path(bundle_root())).resolve()
    config = read_train_config(bundle)
    knobs = parse_knobs(request.knobs, config)
    arms = parse_methods(request.methods, extractor=_extractor(knobs))
    if request.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {request.jobs}")
    tested = parse_only(request.only, folds=request.folds)
    output = request.output.resolve()
    runs = plan_runs(arms, folds=tested, seeds=request.seeds, output=output, knobs=_passed_on(knobs))
    with _locked(output):
        prepared = comparison_dataset(request.folder, output=output, folds=request.folds, pairs=request.pairs)
        say(prepared.note)
        data = read_datalist(prepared.folder)
        needs_masks = any(arm.name == UPPER for arm in arms)
        check_folds(data, folds=tested, seeds=request.seeds, needs_masks=needs_masks)
        todo = _todo(runs, config, data)
        parent = ParentRun(output, tracking_uri=knobs.get("tracking_uri"))
        place = Place(bundle, prepared.folder, parent.tracking_uri, parent.open())
        return _carry_out(request, _Work(runs, todo, place, config, knobs, data, parent), execute, say)


@dataclass(frozen=True)
class _Work:
    """All that is known before the first training."""

    runs: tuple[Run, ...]
    todo: list[tuple[Run, dict[str, Any]]]
    place: Place
    config: dict[str, Any]
    knobs: dict[str, str]
    data: DataList
    parent: ParentRun


def _carry_out(request: Request, work: _Work, execute: Executor, say: Callable[[str], None]) -> Result:
    """Train, evaluate, report; the MLflow run is closed in any case."""
    by_hand = replace(work.place, parent_run_id=None)
    commands = {run.folder: shown(training_words(run, by_hand)) for run in work.runs}
    finished = len(work.runs) - len(work.todo)
    say(f"{len(work.runs)} runs, of which {finished} finished before; {request.jobs} at once:")
    for run, _ in work.todo:
        say(commands[run.folder])
    status, files, output = "KILLED", [], request.output.resolve()
    try:
        failures = run_all(work.todo, work.place, execute=execute, jobs=request.jobs, finished=finished)
        status = "FAILED"
        comparison = Comparison(
            name=f"Comparison on {request.folder.resolve().name}",
            data=work.data,
            folds=request.folds,
            runs=work.runs,
            failures=tuple(failures),
            knobs=work.knobs,
            config=work.config,
            commands=tuple(commands.values()),
            jobs=request.jobs,
        )
        files = write_report(comparison, output)
        status = "FAILED" if failures else "FINISHED"
    finally:
        work.parent.close(status, facts={"methods": request.methods, "runs": len(work.runs)}, files=files)
    return Result(tuple(files), len(failures))


def _todo(runs: Sequence[Run], config: dict[str, Any], data: DataList) -> list[tuple[Run, dict[str, Any]]]:
    """The runs that are not finished, each with its configuration."""
    digest = hashlib.sha256(data.path.read_bytes()).hexdigest()
    pairs = []
    for run in runs:
        asked = configuration(config, run.knobs, fold=run.fold, seed=run.seed, data_sha256=digest)
        if run_state(run, asked) == "to do":
            pairs.append((run, asked))
    return pairs


def _passed_on(knobs: dict[str, str]) -> dict[str, str]:
    """What every run gets; MLflow's address is passed for all together, an extractor to the methods that need it."""
    return {name: value for name, value in knobs.items() if name not in ("tracking_uri", "extractor_path")}


def _extractor(knobs: dict[str, str]) -> str | None:
    """The file of the frozen extractor, which is tried out here, or None."""
    path = value_of(knobs.get("extractor_path", "None"))
    return None if path is None else str(FrozenExtractor(path).path.resolve())


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Make the output folder, and keep other comparisons out of it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        stream = (output / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"{output} cannot be written ({error.strerror}): choose another --output") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another comparison runs in {output}: wait for it, or choose another --output") from None
        yield
