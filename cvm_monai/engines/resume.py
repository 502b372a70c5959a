"""The Ignite handler that saves the whole state of a training after each epoch, and takes it up again."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events

from cvm_monai.data.output import remove_half_written
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines.checkpoints import CheckpointFolder, Manifest
from cvm_monai.engines.outbox import FILE
from cvm_monai.engines.random_states import random_states, set_random_states
from cvm_monai.engines.settings import first_difference, training_settings
from cvm_monai.supervision.moving_average import bare

logger = logging.getLogger(__name__)

ResumeRule = Literal["never", "auto"]
"""`never` begins anew; `auto` goes on from the newest checkpoint in the output folder, where there is one."""
FOLDER = "checkpoints"
WRITTEN = ("run.json", "config.json", "datalist.json", FILE, "figures/training.png", "figures/pseudo_labels.png")
"""Files of the output folder that a kill may have cut off while they were written aside."""


class Stateful(Protocol):
    """What can be saved."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def finished_training(*, output_dir: str, resume: ResumeRule, knobs: Mapping[str, Any], datalist: str) -> str | None:
    """A sentence where `auto` finds that the training is over and nothing is left to do; None where it is not.

    Raises:
        ValueError: the checkpoints there are of a training with other settings; the first difference is named.
    """
    manifest = CheckpointFolder(Path(output_dir) / FOLDER).manifest() if resume == "auto" else None
    if manifest is None:
        return None
    check_same(manifest, training_settings(knobs=knobs, datalist=datalist), output_dir=output_dir)
    if not manifest.finished:
        return None
    return f"the training in {output_dir} is finished: nothing is left to do; --resume never trains anew"


def check_same(manifest: Manifest, settings: Mapping[str, Any], *, output_dir: str | Path) -> None:
    """ValueError where checkpoints are of a training with other settings."""
    difference = first_difference(manifest.settings, settings)
    if difference is not None:
        raise ValueError(
            f"the checkpoints in {Path(output_dir) / FOLDER} are of another training: {difference}; give the former "
            "value, another --output_dir, or --resume never to train anew"
        )


class Checkpoints:
    """Saves everything that a training's result depends on after each epoch, and restores it when a training starts.

    The file holds the state of every part, of all random generators and of the gradient scaler, the epoch and the
    iteration, and which renewal of pseudo-labels was in force. The first process of several writes; all read.

    Args:
        output_dir: gets `checkpoints/`.
        resume: see `ResumeRule`.
        parts: name -> what has a `state_dict`: network, optimiser, supervision, handlers. A network that is wrapped for
            a distributed training is looked through.
        store: of the pseudo-labels.
        knobs, datalist: see `training_settings`.
    """

    def __init__(
        self,
        *,
        output_dir: str,
        resume: ResumeRule,
        parts: Mapping[str, Any],
        store: PseudoLabelStore,
        knobs: Mapping[str, Any],
        datalist: str,
    ) -> None:
        self.output_dir, self.resume, self.parts, self.store = Path(output_dir), resume, dict(parts), store
        self.folder = CheckpointFolder(self.output_dir / FOLDER)
        self.knobs, self.datalist = dict(knobs), datalist
        self._manifest: Manifest | None = None

    def attach(self, engine: Engine) -> None:
        """Must stand before all handlers that look at the epoch when a training starts."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Any) -> None:
        """Restore or begin anew; from here on it saves after all other handlers of an epoch."""
        settings = training_settings(knobs=self.knobs, datalist=self.datalist)
        for name in WRITTEN if idist.get_rank() == 0 else ():
            remove_half_written(self.output_dir / name)
        found = self.folder.manifest() if self.resume == "auto" else None
        if found is not None:
            check_same(found, settings, output_dir=self.output_dir)
        if found is not None and found.checkpoints:
            self._manifest = self._restore(engine, found)
        else:
            self._manifest = Manifest(settings)
            self._begin()
        idist.barrier()
        if not engine.has_event_handler(self._save, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _begin(self) -> None:
        if idist.get_rank() == 0:
            if self.folder.folder.is_dir():
                logger.info("trains anew: the checkpoints in %s are removed", self.folder.folder)
            self.folder.clear()
            self.store.clear()

    def _restore(self, engine: Any, manifest: Manifest) -> Manifest:
        """Load the newest state that can be read; returns the list without those that cannot.

        Raises:
            ValueError: none can.
        """
        reasons = []
        for index in reversed(range(len(manifest.checkpoints))):
            entry = manifest.checkpoints[index]
            kept = Manifest(manifest.settings, manifest.checkpoints[: index + 1])
            try:
                state = self.folder.load(entry)
                self._restore_store(kept)
            except ValueError as error:
                reasons.append(str(error))
                logger.warning("%s: the one before is taken", error)
                continue
            self._load(engine, state)
            logger.info("goes on after epoch %d of %d", entry.epoch, engine.state.max_epochs)
            return kept
        raise ValueError(f"{'; '.join(reasons)}: no checkpoint is left, train with --resume never")

    def _restore_store(self, kept: Manifest) -> None:
        idist.barrier()
        if idist.get_rank() == 0:
            self.store.hold(entry.pseudo_labels for entry in kept.checkpoints)
            self.store.restore(kept.checkpoints[-1].pseudo_labels)

    def _load(self, engine: Any, state: Mapping[str, Any]) -> None:
        for name, part in self._all(engine).items():
            part.load_state_dict(state["parts"][name])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        set_random_states(state["random"])

    def _save(self, engine: Any) -> None:
        """Write the state, and let the store forget what no checkpoint refers to any more."""
        random = random_states()
        if idist.get_rank() != 0:
            return
        state = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "random": random,
            "parts": {name: part.state_dict() for name, part in self._all(engine).items()},
        }
        assert self._manifest is not None
        version = self.store.version
        self._manifest = self.folder.write(
            state, epoch=engine.state.epoch, pseudo_labels=version, manifest=self._manifest
        )
        self.store.hold(entry.pseudo_labels for entry in self._manifest.checkpoints)

    def _finish(self, engine: Any) -> None:
        del engine
        if idist.get_rank() == 0 and self._manifest is not None:
            self._manifest = self.folder.list(
                Manifest(self._manifest.settings, self._manifest.checkpoints, finished=True)
            )

    def _all(self, engine: Any) -> dict[str, Stateful]:
        parts: dict[str, Any] = {name: bare(part) for name, part in self.parts.items()}
        scaler = getattr(engine, "scaler", None)
        return parts if scaler is None else {**parts, "scaler": scaler}
