"""Many arms from one call: prepare, train and evaluate what is missing, report; with all methods it is Table 1."""

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
from cvm_monai.experiments.state import run_state
from cvm_monai.experiments.tracking import COMPARE, ParentRun, check_study
from cvm_monai.files import lock_folder, remove_all_leftovers, sha256
from cvm_monai.files import shown as quoted
from cvm_monai.losses.checks import check_whole
from cvm_monai.networks import NAMED_NETWORKS
from cvm_monai.networks.extractor_files import absolute_extractor
from cvm_monai.networks.frozen import FrozenExtractor


@dataclass(frozen=True)
class Setup:
    """What is asked for, whatever is compared.

    Attributes:
        folder: a prepared data set, or a user's folder.
        output: gets all that is written.
        folds: by patient, from 2; more leave more cases for training and cost as many more runs.
        seeds: 0 to seeds - 1; more tell luck from skill.
        only: folds to test, with commas between them; None: all.
        jobs: runs at once.
        bundle: the MONAI bundle's folder; None: the one beside this package.
        knobs: words of further knobs of the training.
        setting: a configuration of knobs behind the bundle's `train.yaml`; `knobs` go before it.
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

    @property
    def bundle_folder(self) -> Path:
        """The bundle that is run."""
        return (self.bundle or Path(bundle_root())).resolve()


@dataclass(frozen=True)
class ComparisonRequest(Setup):
    """A comparison of methods.

    Attributes:
        methods: `all`, or names with commas between them.
    """

    methods: str = "all"


@dataclass(frozen=True)
class Study:
    """What is compared, and how it is reported.

    Attributes:
        name: in a word, of MLflow's run and of what the output folder is for.
        title: of the page, before the data set's name.
        arms: the rows of the table.
        layout: of the report.
        config: the bundle's training configuration.
        knobs: of every run, as text.
        facts: what MLflow's run is tagged with.
        most_pairs: points of each class that the data must have, and that are sampled; None: whatever there is, and
            as many as are used.
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
    """What came of it: files to look at, runs that failed, the data list that all took."""

    files: tuple[Path, ...]
    failed: int
    datalist: Path


def compare(request: ComparisonRequest, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Table 1: every method on every fold with every seed; see `carry_out`.

    Raises:
        CvmError: an unknown method, and what `carry_out` refuses.
    """
    config = read_train_config(request.bundle_folder)
    knobs = parse_knobs(request.knobs, config, setting=request.setting)
    arms = parse_methods(request.methods, extractor=_extractor(knobs), weights=_weights(knobs))
    study = Study(COMPARE, "Comparison", arms, TABLE_1, config, knobs, facts={"methods": request.methods})
    return carry_out(request, study, execute=execute, say=say)


def carry_out(setup: Setup, study: Study, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Run what is not finished yet and report; everything that can be refused is refused before the first training.

    Raises:
        CvmError: a wrong option or knob, a data set that cannot be compared on, an output folder that cannot be
            written or is in use, a finished run of another configuration, or no run that finished.
    """
    if setup.jobs < 1:
        raise CvmError(f"--jobs must be at least 1, got {setup.jobs}")
    tested = parse_only(setup.only, folds=setup.folds)
    pairs = _sampled_pairs(study)
    output = setup.output.resolve()
    runs = plan_runs(study.arms, folds=tested, seeds=setup.seeds, output=output, knobs=_passed_on(study.knobs))
    with _locked(output):
        check_study(output, study.name)
        prepared = comparison_dataset(setup.folder, output=output, folds=setup.folds, pairs=pairs)
        say(prepared.note)
        data = read_datalist(prepared.folder)
        notes = check_pairs(data, pairs=study.most_pairs) if study.most_pairs else ()
        needs_masks = any(arm.name == UPPER for arm in study.arms)
        check_folds(data, folds=tested, seeds=setup.seeds, needs_masks=needs_masks)
        todo = _todo(runs, study.config, data)
        parent = ParentRun(output, tracking_uri=study.knobs.get("tracking_uri"), study=study.name)
        place = RunPaths(setup.bundle_folder, prepared.folder, parent.tracking_uri, parent.open())
        return _train_and_report(setup, study, _Work(runs, todo, place, data, notes, parent), execute, say)


@dataclass(frozen=True)
class _Work:
    """All that is known before the first training."""

    runs: tuple[Run, ...]
    todo: list[tuple[Run, dict[str, Any]]]
    place: RunPaths
    data: DataList
    notes: tuple[str, ...]
    parent: ParentRun


def _train_and_report(setup: Setup, study: Study, work: _Work, execute: Executor, say: Callable[[str], None]) -> Result:
    """Train, evaluate, report; the MLflow run is closed in any case."""
    by_hand = replace(work.place, parent_run_id=None)
    commands = {run.folder: shown(training_words(run, by_hand)) for run in work.runs}
    finished = len(work.runs) - len(work.todo)
    say(f"{len(work.runs)} runs, of which {finished} finished before; {setup.jobs} at once:")
    for run, _ in work.todo:
        say(commands[run.folder])
    status, files, output = "KILLED", [], setup.output.resolve()
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


def _todo(runs: Sequence[Run], config: dict[str, Any], data: DataList) -> list[tuple[Run, dict[str, Any]]]:
    """The runs that are not finished, each with its configuration."""
    digest = sha256(data.path)
    pairs = []
    for run in runs:
        asked = configuration(config, run.knobs, fold=run.fold, seed=run.seed, data_sha256=digest)
        if run_state(run, asked) == "to do":
            pairs.append((run, asked))
    return pairs


def _sampled_pairs(study: Study) -> int:
    """Points of each class to sample where a folder is prepared."""
    used = value_of(study.knobs["pairs"]) if "pairs" in study.knobs else study.config.get("pairs", 5)
    check_whole("--pairs", used, low=1)
    return study.most_pairs or int(used)


def _passed_on(knobs: dict[str, str]) -> dict[str, str]:
    """What every run gets; MLflow's address is passed for all together, an extractor to the methods that need it.

    An extractor that is the encoder of the network belongs to every run.
    """
    own = ("tracking_uri", "extractor_path", "extractor_weights")
    shared = {name: value for name, value in knobs.items() if name not in own}
    if knobs.get("network") in NAMED_NETWORKS:
        named = {"extractor_path": _extractor(knobs), "extractor_weights": _weights(knobs)}
        shared |= {name: value for name, value in named.items() if value is not None}
    return shared


def _extractor(knobs: dict[str, str]) -> str | None:
    """The file or name of the frozen extractor, which is tried out here, or None."""
    path = _path(knobs, "extractor_path")
    return None if path is None else absolute_extractor(FrozenExtractor(path, weights=_weights(knobs)).path)


def _weights(knobs: dict[str, str]) -> str | None:
    """The file of the weights of an extractor that is given by name, or None."""
    path = _path(knobs, "extractor_weights")
    return None if path is None else str(Path(path).resolve())


def _path(knobs: dict[str, str], name: str) -> str | None:
    path = value_of(knobs.get(name, "None"))
    if path is not None and not isinstance(path, str):
        raise CvmError(f"--{name} must be a path or a name, got {quoted(knobs[name])}")
    return path


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Make the output folder, and keep other comparisons out of it."""
    with lock_folder(output, option="--output") as holder:
        if holder is not None:
            raise CvmError(f"another comparison runs in {output}: wait for it, or choose another --output")
        remove_all_leftovers(output)
        yield
