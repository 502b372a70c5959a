"""The Ignite handler that saves the whole state of a training after each epoch, and resumes from it."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines.checkpoints import CheckpointFolder, Manifest, random_states, set_random_states
from cvm_monai.engines.processes import from_first, gathered
from cvm_monai.engines.workflow import training_settings
from cvm_monai.errors import CvmError
from cvm_monai.files import refuse_difference, remove_leftovers
from cvm_monai.knobs import ResumeRule, with_earlier
from cvm_monai.runs import RUN_FILE
from cvm_monai.runs.outbox import FILE
from cvm_monai.supervision.factory import METHODS
from cvm_monai.supervision.moving_average import bare

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
WRITTEN = (RUN_FILE, "config.json", "datalist.json", FILE, "figures/training.png", "figures/pseudo_labels.png")
"""Files of the output folder whose temporary files a kill may have left behind."""


class Stateful(Protocol):
    """An object whose state can be saved and restored."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def finished_training(*, output_dir: str, resume: ResumeRule, knobs: Mapping[str, Any], datalist: str) -> str | None:
    """Explain that the training has finished, if `auto` finds nothing left to do; None otherwise.

    Raises:
        CvmError: the checkpoints belong to a training with other settings; the first difference is named.
    """
    manifest = CheckpointFolder(Path(output_dir) / FOLDER).manifest() if resume == "auto" else None
    if manifest is None:
        return None
    settings = training_settings(knobs=knobs, datalist=datalist)
    method = METHODS.get(str(knobs.get("supervision")))
    follows = method is not None and method.follows_progress
    check_same(manifest, settings, output_dir=output_dir, follows_progress=follows)
    if not manifest.finished or _is_longer(manifest, settings):
        return None
    return f"the training in {output_dir} is finished: nothing is left to do; --resume never trains from the start"


def check_same(
    manifest: Manifest, settings: Mapping[str, Any], *, output_dir: str | Path, follows_progress: bool = False
) -> None:
    """Raise CvmError if checkpoints belong to a training with other settings; a larger `max_epochs` is allowed.

    With `follows_progress`, as of the supervision, it is not allowed: the result then depends on `max_epochs`.
    """
    before = manifest.settings
    if _is_longer(manifest, settings):
        if follows_progress:
            raise CvmError(
                f"the checkpoints in {Path(output_dir) / FOLDER} are of a training of {before['max_epochs']} epochs, "
                f"and cannot be continued to {settings['max_epochs']}: with this supervision the loss "
                "depends on the completed fraction of the training; give the former --max_epochs, another "
                "--output_dir, or --resume never to train from the start"
            )
        before = {**before, "max_epochs": settings["max_epochs"]}
    refuse_difference(
        with_earlier(before),
        with_earlier(settings),
        what=f"the checkpoints in {Path(output_dir) / FOLDER} are of another training",
        advice="give the former value, another --output_dir, or --resume never to train from the start",
    )


def _is_longer(manifest: Manifest, settings: Mapping[str, Any]) -> bool:
    """Whether more epochs are requested than before."""
    before, now = manifest.settings.get("max_epochs"), settings.get("max_epochs")
    return isinstance(before, int) and isinstance(now, int) and now > before


class Checkpoints:
    """Saves everything that a training's result depends on at ends of epochs, and restores it when a training starts.

    A checkpoint holds the state of every part, of all random generators and of the gradient scaler, the epoch, the
    iteration, and the number of the current pseudo-label renewal. Rank 0 writes; all processes read.

    Args:
        output_dir: gets `checkpoints/`.
        resume: see `ResumeRule`.
        parts: name -> object with a `state_dict`: network, optimiser, supervision, handlers. A wrapper for distributed
            training is removed from a network first.
        store: of the pseudo-labels.
        knobs, datalist: see `training_settings`.
        seconds: minimum time between two checkpoints; the last epoch is always saved. 0 saves after each epoch; raising
            it costs less time and repeats more after a kill; 0 to 600.

    Raises:
        CvmError: negative seconds.
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
        seconds: float = 0.0,
    ) -> None:
        if not isinstance(seconds, int | float) or not seconds >= 0:
            raise CvmError(f"--checkpoint_seconds must be a number of at least 0, got {seconds!r}")
        self.output_dir, self.resume, self.parts, self.store = Path(output_dir), resume, dict(parts), store
        self.folder = CheckpointFolder(self.output_dir / FOLDER)
        self.knobs, self.datalist = dict(knobs), datalist
        self.seconds, self._saved = seconds, time.monotonic()
        self._manifest: Manifest | None = None

    def attach(self, engine: Engine) -> None:
        """Add the handlers; call it before attaching all handlers that read the epoch when a training starts."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Any) -> None:
        """Restore or start from scratch; then save after all other handlers of an epoch."""
        settings = training_settings(knobs=self.knobs, datalist=self.datalist)
        for name in WRITTEN if idist.get_rank() == 0 else ():
            remove_leftovers(self.output_dir / name)
        found = self.folder.manifest() if self.resume == "auto" else None
        if found is not None:
            follows = getattr(self.parts.get("supervision"), "follows_progress", False)
            check_same(found, settings, output_dir=self.output_dir, follows_progress=follows)
        if found is not None and found.checkpoints:
            self._manifest = Manifest(settings, self._restore(engine, found).checkpoints)
        else:
            self._manifest = Manifest(settings)
            self._begin()
        idist.barrier()
        self._saved = time.monotonic()
        if not engine.has_event_handler(self._save, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _begin(self) -> None:
        if idist.get_rank() == 0:
            if self.folder.folder.is_dir():
                logger.info("training from the start: the checkpoints in %s are removed", self.folder.folder)
            self.folder.clear()
            self.store.clear()

    def _restore(self, engine: Any, manifest: Manifest) -> Manifest:
        """Load the newest readable checkpoint; returns the manifest without the unreadable ones.

        Raises:
            CvmError: no checkpoint can be read.
        """
        reasons = []
        for index in reversed(range(len(manifest.checkpoints))):
            entry = manifest.checkpoints[index]
            kept = Manifest(manifest.settings, manifest.checkpoints[: index + 1])
            state, reason = self._read(kept)
            refused = [one for one in gathered(reason) if one is not None]  # one process that fails is enough
            if refused or state is None:
                reasons.append(refused[0])
                logger.warning("%s: using the one before it", refused[0])
                continue
            self.store.wait_for(entry.pseudo_labels)
            self._load(engine, state)
            logger.info("goes on after epoch %d of %d", entry.epoch, engine.state.max_epochs)
            return kept
        raise CvmError(f"{'; '.join(reasons)}: no checkpoint is left, train with --resume never")

    def _read(self, kept: Manifest) -> tuple[dict[str, Any] | None, str | None]:
        """Read the newest of these checkpoints, and on rank 0 publish its pseudo-labels; or return why it fails."""
        idist.barrier()  # no process still reads the previous pseudo-labels
        entry = kept.checkpoints[-1]
        try:
            state = self.folder.load(entry)
            if idist.get_rank() == 0:
                self.store.hold(one.pseudo_labels for one in kept.checkpoints)
                self.store.restore(entry.pseudo_labels)
        except ValueError as error:
            return None, str(error)
        return state, None

    def _load(self, engine: Any, state: Mapping[str, Any]) -> None:
        for name, part in self._all(engine).items():
            part.load_state_dict(state["parts"][name])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        set_random_states(state["random"])

    def _save(self, engine: Any) -> None:
        """Write a checkpoint if it is due, and let the store remove pseudo-labels that no checkpoint refers to."""
        is_last = engine.state.epoch == engine.state.max_epochs
        if not from_first(is_last or time.monotonic() - self._saved >= self.seconds):
            return
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
        self._saved = time.monotonic()

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
