"""Run many arms from one call: prepare, train and evaluate what is missing, report; with all methods it is Table 1."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvm_monai.data.datalist import DataList, read_datalist
from cvm_monai.engines.workflow import bundle_root
from cvm_monai.errors import CvmError
from cvm_monai.experiments.dataset import check_folds, check_pairs, comparison_dataset
from cvm_monai.experiments.execute import Executor, RunPaths, run_all, shown, training_words
from cvm_monai.experiments.knobs import configuration, parse_knobs, read_train_config, value_of
from cvm_monai.experiments.layout import TABLE_1, Layout
from cvm_monai.experiments.plan import UPPER, Arm, Run, parse_methods, parse_only, plan_runs
from cvm_monai.experiments.report import Comparison, write_report
from cvm_monai.experiments.shards import check_complete, check_idle, check_plan, lock_shard
from cvm_monai.experiments.state import COMPARE, ParentRun, check_study, run_state
from cvm_monai.files import lock_folder, remove_all_leftovers, sha256
from cvm_monai.files import shown as quoted
from cvm_monai.losses.checks import check_whole
from cvm_monai.networks import NAMED_NETWORKS
from cvm_monai.networks.extractor_files import absolute_extractor
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.runs import Status
from cvm_monai.shards import in_shard, parse_shard

LONGEST_WAIT = 60.0
"""Seconds that a shard waits while another one prepares the data."""


@dataclass(frozen=True)
class Setup:
    """Options common to all kinds of comparison.

    Attributes:
        folder: a prepared data set, or a folder of images and annotations.
        output: folder of all outputs.
        folds: number of folds by patient, from 2; more folds leave more training cases and cost as many more runs.
        seeds: number of seeds, 0 to seeds - 1; more seeds separate chance from real differences.
        only: folds to test, comma-separated; None: all.
        jobs: parallel runs.
        bundle: the MONAI bundle's folder; None: the one beside this package.
        knobs: further knobs of the training, as command-line words.
        setting: a configuration of knobs merged over the bundle's `train.yaml`; `knobs` override it.
        shard: do this part of the runs, as `3/16`, and write no report; None: all, and the report.
        report: write the report and train nothing.
    """

    folder: Path
    output: Path
    folds: int = 4
    seeds: int = 1
    only: str | None = None
    jobs: int = 1
    bundle: Path | None = None
    knobs: tuple[str, ...] = ()
    setting: Path | None = None
    shard: str | None = None
    report: bool = False

    @property
    def bundle_folder(self) -> Path:
        """The folder of the bundle that is run."""
        return (self.bundle or Path(bundle_root())).resolve()


@dataclass(frozen=True)
class ComparisonRequest(Setup):
    """Request for a comparison of methods.

    Attributes:
        methods: `all`, or comma-separated names.
    """

    methods: str = "all"


@dataclass(frozen=True)
class Study:
    """Definition of a comparison: arms, knobs and report.

    Attributes:
        name: one word, for MLflow's run and to mark the output folder.
        title: of the page, before the data set's name.
        arms: the rows of the table.
        layout: of the report.
        config: the bundle's training configuration.
        knobs: of every run, as text.
        facts: tags of the MLflow run.
        most_pairs: points of each class that the data must have, and that are sampled; None: no minimum, and as many
            as are used.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    layout: Layout
    config: dict[str, Any]
    knobs: dict[str, str]
    facts: Mapping[str, object]
    most_pairs: int | None = None


@dataclass(frozen=True)
class Result:
    """Result of a comparison: files of the report, number of failed runs, and the data list of all runs."""

    files: tuple[Path, ...]
    failed: int
    datalist: Path


def compare(request: ComparisonRequest, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Run every method on every fold with every seed and report Table 1; see `carry_out`.

    Raises:
        CvmError: an unknown method, or an error of `carry_out`.
    """
    config = read_train_config(request.bundle_folder)
    knobs = parse_knobs(request.knobs, config, setting=request.setting)
    arms = parse_methods(request.methods, extractor=_extractor(knobs), weights=_weights(knobs))
    study = Study(COMPARE, "Comparison", arms, TABLE_1, config, knobs, facts={"methods": request.methods})
    return carry_out(request, study, execute=execute, say=say)


def carry_out(setup: Setup, study: Study, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Run what is not finished yet and report; all checks are done before the first training.

    Raises:
        CvmError: a wrong option or knob, an unsuitable data set, an output folder that cannot be written or is in use,
            a finished run of another configuration, no run that finished, or an error of its shards.
    """
    if setup.jobs < 1:
        raise CvmError(f"--jobs must be at least 1, got {setup.jobs}")
    if setup.shard is not None and setup.report:
        raise CvmError("--shard trains a part of the runs and --report writes about all of them: give one of the two")
    output = setup.output.resolve()
    if setup.shard is None:
        with _locked(output):
            check_idle(output)
            work = _prepared(setup, study, say)
            if setup.report:
                check_complete(output, work.runs, [run for run, _ in work.todo])
            return _train_and_report(setup, study, work, execute, say)
    parse_shard(setup.shard)
    with lock_shard(output, setup.shard):
        with _locked(output, wait=LONGEST_WAIT):
            work = _prepared(setup, study, say)
        return _train_shard(setup, study, work, execute, say)


def _prepared(setup: Setup, study: Study, say: Callable[[str], None]) -> "_Work":
    """Check everything, prepare the data and list what is to be done; the caller holds the output's lock."""
    tested = parse_only(setup.only, folds=setup.folds)
    pairs = _sampled_pairs(study)
    output = setup.output.resolve()
    runs = plan_runs(study.arms, folds=tested, seeds=setup.seeds, output=output, knobs=_passed_on(study.knobs))
    check_study(output, study.name)
    prepared = comparison_dataset(setup.folder, output=output, folds=setup.folds, pairs=pairs)
    say(prepared.note)
    data = read_datalist(prepared.folder)
    notes = check_pairs(data, pairs=study.most_pairs) if study.most_pairs else ()
    needs_masks = any(arm.name == UPPER for arm in study.arms)
    check_folds(data, folds=tested, seeds=setup.seeds, needs_masks=needs_masks)
    asked = _asked(runs, study.config, data)
    if setup.shard is not None:
        check_plan(output, setup.shard, asked)
    todo = [(run, asked[run.name]) for run in in_shard(runs, setup.shard) if run_state(run, asked[run.name]) == "to do"]
    parent = ParentRun(output, tracking_uri=study.knobs.get("tracking_uri"), study=study.name)
    place = RunPaths(setup.bundle_folder, prepared.folder, parent.tracking_uri, parent.open())
    return _Work(runs, todo, place, data, notes, parent)


@dataclass(frozen=True)
class _Work:
    """Everything determined before the first training."""

    runs: tuple[Run, ...]
    todo: list[tuple[Run, dict[str, Any]]]
    place: RunPaths
    data: DataList
    notes: tuple[str, ...]
    parent: ParentRun


def _train_and_report(setup: Setup, study: Study, work: _Work, execute: Executor, say: Callable[[str], None]) -> Result:
    """Train, evaluate and report; the MLflow run is always closed."""
    by_hand = replace(work.place, parent_run_id=None)
    commands = {run.folder: shown(training_words(run, by_hand)) for run in work.runs}
    finished = len(work.runs) - len(work.todo)
    say(f"{len(work.runs)} runs, of which {finished} finished before; {setup.jobs} at once:")
    for run, _ in work.todo:
        say(commands[run.folder])
    files, output = [], setup.output.resolve()
    status: Status = "KILLED"
    try:
        failures = run_all(work.todo, work.place, execute=execute, jobs=setup.jobs, finished=finished)
        status = "FAILED"
        comparison = Comparison(
            name=f"{study.title} on {setup.folder.resolve().name}",
            data=work.data,
            folds=setup.folds,
            runs=work.runs,
            failures=tuple(failures),
            knobs=study.knobs,
            config=study.config,
            commands=tuple(commands.values()),
            jobs=setup.jobs,
            layout=study.layout,
            notes=work.notes,
        )
        files = write_report(comparison, output)
        status = "FAILED" if failures else "FINISHED"
    finally:
        work.parent.close(status, facts={**study.facts, "runs": len(work.runs)}, files=files)
    return Result(tuple(files), len(failures), work.data.path)


def _train_shard(setup: Setup, study: Study, work: _Work, execute: Executor, say: Callable[[str], None]) -> Result:
    """Train and evaluate what is missing of a shard; the report is left to a command without a shard."""
    own = in_shard(work.runs, setup.shard)
    say(f"shard {setup.shard}: {len(own)} runs, of which {len(own) - len(work.todo)} finished before")
    status: Status = "KILLED"
    try:
        failures = run_all(work.todo, work.place, execute=execute, jobs=setup.jobs, finished=len(own) - len(work.todo))
        status = "FAILED" if failures else "FINISHED"
    finally:
        work.parent.close(status, facts=study.facts)
    say("the same command with --report in place of --shard writes the report, when all shards are done")
    return Result((), len(failures), work.data.path)


def _asked(runs: Sequence[Run], config: dict[str, Any], data: DataList) -> dict[str, dict[str, Any]]:
    """Collect the configuration of each run, by its name."""
    digest = sha256(data.path)
    return {
        run.name: configuration(config, run.knobs, fold=run.fold, seed=run.seed, data_sha256=digest) for run in runs
    }


def _sampled_pairs(study: Study) -> int:
    """Points of each class to sample when a folder is prepared."""
    used = value_of(study.knobs["pairs"]) if "pairs" in study.knobs else study.config.get("pairs", 5)
    check_whole("--pairs", used, low=1)
    return study.most_pairs or int(used)


def _passed_on(knobs: dict[str, str]) -> dict[str, str]:
    """Select the knobs of every run, without MLflow's address (set for all together) and an extractor (by method).

    An extractor that is the encoder of the network belongs to every run.
    """
    own = ("tracking_uri", "extractor_path", "extractor_weights")
    shared = {name: value for name, value in knobs.items() if name not in own}
    if knobs.get("network") in NAMED_NETWORKS:
        named = {"extractor_path": _extractor(knobs), "extractor_weights": _weights(knobs)}
        shared |= {name: value for name, value in named.items() if value is not None}
    return shared


def _extractor(knobs: dict[str, str]) -> str | None:
    """Return the file or name of the frozen extractor, after a test load, or None."""
    path = _path(knobs, "extractor_path")
    return None if path is None else absolute_extractor(FrozenExtractor(path, weights=_weights(knobs)).path)


def _weights(knobs: dict[str, str]) -> str | None:
    """Return the weights file of an extractor that is given by name, or None."""
    path = _path(knobs, "extractor_weights")
    return None if path is None else str(Path(path).resolve())


def _path(knobs: dict[str, str], name: str) -> str | None:
    path = value_of(knobs.get(name, "None"))
    if path is not None and not isinstance(path, str):
        raise CvmError(f"--{name} must be a path or a name, got {quoted(knobs[name])}")
    return path


@contextmanager
def _locked(output: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Create the output folder and lock it against other comparisons, for which it waits so many seconds."""
    with lock_folder(output, wait=wait) as holder:
        if holder is not None:
            raise CvmError(f"another comparison is running in {output}: wait for it, or choose another --output")
        remove_all_leftovers(output)
        yield
