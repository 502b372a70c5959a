"""The Ignite handlers that record: a training, in `run.json` and MLflow with its curves and overlays; other outputs."""

import atexit
import copy
import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from cvm_monai.data.datalist import read_datalist, write_datalist
from cvm_monai.data.stain import TARGET_FILE
from cvm_monai.engines.previews import preview_figure
from cvm_monai.engines.selection import SelectionEvents, listen
from cvm_monai.engines.trainer import divergence
from cvm_monai.engines.workflow import active_parser
from cvm_monai.figures import save_figure, training_curves
from cvm_monai.files import sha256, write_json
from cvm_monai.runs import OutputRecord, RunFolder, Status
from cvm_monai.runs.folder import begun, plain
from cvm_monai.runs.outbox import FILE
from cvm_monai.runs.store import artifact_folder
from cvm_monai.runs.tracking import NOTE, SOURCE, TrackedRun, user_tag, writer_of

logger = logging.getLogger(__name__)


class RunRecorder:
    """Writes the record of a training into `output_dir` and MLflow: all outputs except weights and pseudo-labels.

    With MONAI's own MLflow handler attached too (`--tracking mlflow`), both write into one run, and this one omits what
    that one logs: the engines' metrics and the executed configuration.

    Args:
        output_dir: gets `run.json`, `config.json`, `datalist.json` and `figures/`.
        tracking_uri: of MLflow, or `none`.
        experiment_name: of MLflow.
        run_name: must be unique.
        validator: the evaluator, for its metrics and renewals.
        knobs: name and value of each setting; they become MLflow's parameters.
        datalist: the data list that is trained on.
        model_path: the best weights, logged at the end, with `stain.json` beside them if there is one.
        parent_run_id: MLflow run under which this run is nested.
    """

    def __init__(
        self,
        *,
        output_dir: str,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        validator: Engine,
        knobs: dict[str, Any],
        datalist: str,
        model_path: str,
        parent_run_id: str | None = None,
    ) -> None:
        self.folder = Path(output_dir)
        self.record = RunFolder(output_dir)
        self.run_name, self.validator, self.knobs = run_name, validator, dict(knobs)
        self.datalist, self.model_path = Path(datalist), Path(model_path)
        self.parent_run_id = parent_run_id
        self.run = TrackedRun(
            tracking_uri=tracking_uri,
            experiment=experiment_name,
            artifact_dir=artifact_folder(tracking_uri, output_dir=self.folder),
            outbox=self.folder / FILE,
            writer=writer_of(self.folder, tracking_uri=tracking_uri),
        )
        parser = active_parser()
        self.config = None if parser is None else copy.deepcopy(parser.config)
        self.history: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.renewals: list[int] = []
        self._shared = self._open = False
        self._renewal_seconds = self._seconds_before = self._stored_mib = 0.0
        self._began = time.perf_counter()
        self._resumed_from: int | None = None
        self._diverged: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the curves and the record need of the epochs so far."""
        return {
            "history": {name: [list(point) for point in points] for name, points in self.history.items()},
            "renewals": list(self.renewals),
            "renewal_seconds": self._renewal_seconds,
            "seconds": self._seconds(),
            "diverged": self._diverged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state; the training about to start, and its MLflow run, then continue."""
        self.history = defaultdict(
            list, {name: [(e, v) for e, v in points] for name, points in state["history"].items()}
        )
        self.renewals = list(state["renewals"])
        self._renewal_seconds, self._seconds_before = state["renewal_seconds"], state["seconds"]
        self._diverged = state.get("diverged")
        self._resumed_from = max((points[-1][0] for points in self.history.values()), default=0)

    def attach(self, engine: Engine) -> None:
        """Add the handlers; call it after attaching those that compute metrics and validate. Only rank 0 records."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        listen(self.validator, SelectionEvents.RENEWED, self._log_renewal)

    def _start(self, engine: Engine) -> None:
        owners = [getattr(entry[0], "__self__", None) for entry in engine._event_handlers[Events.STARTED]]
        self._others = [owner for owner in owners if isinstance(owner, MLFlowHandler)]
        self._shared = bool(self._others)
        knobs = {name: plain(value) for name, value in self.knobs.items()}
        facts = {"kind": "training", **begun(), "knobs": knobs, "data_sha256": sha256(self.datalist)}
        self._began = time.perf_counter()
        if not self._go_on(facts):
            self.run.start(self.run_name)
        if stale := self.run.close_stale():
            logger.info("MLflow: closed %d runs of killed trainings of this output folder", stale)
        facts |= {"mlflow_run_id": self.run.run_id, "mlflow_tracking_uri": self.run.tracking_uri}
        facts |= {"processes": idist.get_world_size()}
        facts = self.record.begin(facts, goes_on=facts["resumed"] > 0)
        self._open = True
        atexit.register(self._end, "KILLED")
        if self.datalist.resolve().parent != self.folder.resolve():
            datalist = read_datalist(self.datalist)
            write_datalist(self.folder / "datalist.json", datalist.cases, classes=datalist.classes)
        if self.config is not None:
            write_json(self.folder / "config.json", self.config)
            if not self._shared:
                self.run.artifact(self.folder / "config.json")
        own = {"max_epochs"} if self._shared else set()
        self.run.params({name: value for name, value in knobs.items() if name not in own})
        self.run.tags({name: facts[name] for name in ("commit", "data_sha256", "resumed")})
        self.run.tags(SOURCE | {"mlflow.source.git.commit": facts["commit"]})
        folder = self.datalist.resolve().parent
        self.run.dataset(folder.name, digest=facts["data_sha256"], uri=str(folder))
        if facts["resumed"] == 0:  # later the description may be the user's own
            self.run.tags({NOTE: describe(knobs, folder.name)} | user_tag())
        if self.parent_run_id is not None:
            self.run.tags({"mlflow.parentRunId": self.parent_run_id})

    def _go_on(self, facts: dict[str, Any]) -> bool:
        """Continue the run that `run.json` names, if this training is resumed; writes to `facts` how often it was."""
        facts |= {"resumed": 0, "resumed_after_epochs": []}
        before = self.record.known
        if self._resumed_from is None and not _cut_off(before, facts):
            return False
        after = [*before.get("resumed_after_epochs", ()), self._resumed_from or 0]
        facts |= {"resumed": len(after), "resumed_after_epochs": after}
        facts["started"] = before.get("started", facts["started"])
        name = self.run.go_on(before.get("mlflow_run_id"))
        if name is None:
            return False
        for handler in self._others:
            handler.run_name = name
        return True

    def _seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._began

    def _begin_epoch(self, engine: Engine) -> None:
        del engine
        self._epoch_start = time.perf_counter()

    def __call__(self, engine: Engine) -> None:
        """Log one epoch: means of the loss terms, validation metrics, seconds."""
        epoch = engine.state.epoch
        terms = {name: value for name, value in engine.state.metrics.items() if name.startswith("train_")}
        scores = dict(self.validator.state.metrics)
        for name, value in {**terms, **scores}.items():
            self.history[name].append((epoch, float(value)))
        seconds = {"epoch_seconds": time.perf_counter() - self._epoch_start}
        self.run.metrics(seconds if self._shared else {**terms, **scores, **seconds}, step=epoch)
        self._watch()

    def _watch(self) -> None:
        """Report divergence once, in the log, `run.json` and MLflow; `_complete` repeats it at the end."""
        found = divergence(self.history, learning_rate=self.knobs.get("learning_rate"))
        if found is not None and self._diverged is None:
            logger.warning(found)
            self.record.update(diverged=found)
            self.run.tags({"diverged": found})
        self._diverged = self._diverged or found

    def _log_renewal(self, engine: Any) -> None:
        report = engine.state.renewal
        self.renewals.append(report.epoch)
        self._renewal_seconds += report.seconds
        self._stored_mib = report.stored_mib
        values = {
            "pseudo_label_images": report.labelled,
            "pseudo_label_skipped": sum(report.skipped.values()),
            "solver_iterations": report.iterations,
            "renewal_seconds": report.seconds,
            "pseudo_label_unchanged": report.unchanged,
            "pseudo_label_mib": report.stored_mib,
        }
        if report.dice is not None:
            values["pseudo_label_dice"] = report.dice
            self.history["pseudo_label_dice"].append((report.epoch, report.dice))
        self.run.metrics(values, step=report.epoch)
        if report.previews:
            figure = preview_figure(report.previews)
            save_figure(figure, self.folder / "figures" / "pseudo_labels.png")
            self.run.figure(figure, f"pseudo_labels/epoch_{report.epoch:04d}.png")

    def _complete(self, engine: Engine) -> None:
        del engine
        seconds = self._seconds()
        times = {"training_seconds": seconds, "renewal_seconds": self._renewal_seconds}
        self.record.update(**times, val_partial_ce=self._validated())
        share = self._renewal_seconds / seconds
        logger.info(
            "trained in %.0f s, of which %.0f s (%.1f %%) renewed pseudo-labels%s",
            seconds,
            self._renewal_seconds,
            100 * share,
            f"; {self._stored_mib:.1f} MiB of them are kept" if self._stored_mib else "",
        )
        self.run.artifact(self.model_path, folder="model")
        self.run.artifact(self.model_path.with_name(TARGET_FILE), folder="model")
        self._end("FINISHED")
        self.run.artifact(self.record.path)
        self._settle()
        if self._diverged is not None:
            self.record.update(diverged=self._diverged)
            print(f"warning: {self._diverged}", file=sys.stderr, flush=True)

    def _validated(self) -> float | None:
        """Validation partial cross-entropy of the saved weights; None if no finite one is known."""
        values = [value for _, value in self.history["val_partial_ce"]]
        if self.knobs.get("selection") == "last":
            values = values[-1:]
        return min((value for value in values if math.isfinite(value)), default=None)

    def _settle(self) -> None:
        left = self.run.settle()
        if left:
            logger.warning(
                "MLflow at %s does not answer: %d entries of the record are kept in %s; `cvm-monai sync-tracking %s` "
                "sends them when it is back",
                self.run.tracking_uri,
                left,
                self.folder / FILE,
                self.folder,
            )

    def _draw(self) -> None:
        if self.history:
            curves = save_figure(
                training_curves(self.history, renewals=self.renewals), self.folder / "figures" / "training.png"
            )
            self.run.artifact(curves)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        del engine
        try:
            self._end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            self._settle()
        except OSError as other:  # such as a full disk, which may be what ended the training
            logger.warning("the end of the training is not recorded: %s", other)
        raise error

    def _end(self, status: Status) -> None:
        """Close the record once; a run still open at the interpreter's exit was interrupted.

        Until this training has written its record, `run.json` belongs to another training and is left unchanged.
        """
        atexit.unregister(self._end)
        if self._open:
            self._open = False
            self.record.end(status)
            self._draw()
        self.run.end(status)


def describe(knobs: Mapping[str, Any], data: str) -> str:
    """Describe a training in one line for MLflow's pages."""
    facts = (knobs.get("supervision"), knobs.get("network"), f"fold {knobs.get('fold')} of {data}")
    return f"{', '.join(str(fact) for fact in facts if fact)}; seed {knobs.get('seed')}"


def _cut_off(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the earlier record is of this same training, killed before its first checkpoint."""
    same = before.get("knobs") == now["knobs"] and now["knobs"].get("resume") == "auto"
    return same and before.get("status") != "FINISHED"


class OutputRecorder:
    """Records command, knobs, versions, commit, hashes, seed, host and times when the engine has completed.

    Args:
        kind: of the output, such as `inference`.
        folder: of the output; gets `run.json`, or `run_KIND.json` if it holds another command's `run.json`.
        knobs: name and value of each setting.
        files: files whose SHA-256 is recorded: weights, data list.
        records: cases whose images' SHA-256 is recorded too.
        seed: of all random numbers; None: the command uses none.
    """

    def __init__(
        self,
        *,
        kind: str,
        folder: str,
        knobs: Mapping[str, Any],
        files: Sequence[str] = (),
        records: Sequence[Mapping[str, Any]] = (),
        seed: int | None = None,
    ) -> None:
        self.kind, self.folder, self.knobs, self.seed = kind, Path(folder), knobs, seed
        self.files = {Path(file).name: Path(file) for file in files}
        self.files |= {str(record["image"]): Path(record["image"]) for record in records}

    def attach(self, engine: Engine) -> None:
        """Add the handlers to the evaluator; call it after attaching the handlers that write the output."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        del engine
        self._record = OutputRecord(self.kind, configuration=self.knobs, seed=self.seed)

    def _complete(self, engine: Engine) -> None:
        del engine
        self._record.write(self.folder, data=self.files)
