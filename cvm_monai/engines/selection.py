"""Model selection: events at a new low of a validation metric, and saving of the selected weights."""

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import ignite.distributed as idist
import torch
from ignite.engine import Engine, EventEnum, Events
from torch import Tensor, nn

from cvm_monai.data.stain import TARGET_FILE, StainTarget, write_target
from cvm_monai.engines.processes import from_first
from cvm_monai.errors import CvmError
from cvm_monai.files import remove_leftovers, write_bytes
from cvm_monai.knobs import Selection
from cvm_monai.supervision.moving_average import bare

WORDS: Mapping[Selection, str] = {
    "lowest": "lowest partial cross-entropy on validation points",
    "last": "the last epoch",
}


class SelectionEvents(EventEnum):
    """Events that `LowestMetric` adds to an evaluator."""

    NEW_LOW = "new_low"
    RENEWED = "renewed"


def lower_is_better(current: float, best: float) -> bool:
    """Compare metrics for MONAI's engines, whose default is higher."""
    return current < best


def in_words(selection: Selection) -> str:
    """Describe a selection rule for reports."""
    return WORDS[selection]


def listen(engine: Engine, event: SelectionEvents, handler: Callable[[Engine], None]) -> None:
    """Add a handler for one of these events, and register the events with the evaluator if needed."""
    engine.register_events(*SelectionEvents)
    engine.add_event_handler(event, handler)


class LowestMetric:
    """Fires `SelectionEvents.NEW_LOW` on an evaluator after each validation with the lowest metric so far.

    Args:
        metric: name of the metric in `engine.state.metrics`.
    """

    _state_keys = ("best", "epoch")

    def __init__(self, *, metric: str) -> None:
        self.metric = metric
        self.best = float("inf")
        self.epoch = 0

    def attach(self, engine: Engine) -> None:
        """Register the events and add the handler."""
        engine.register_events(*SelectionEvents)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare; a non-finite value is never a new low. Of several processes rank 0 decides."""
        value = from_first(float(engine.state.metrics[self.metric]))
        if math.isfinite(value) and value < self.best:
            self.best, self.epoch = value, engine.state.epoch
            engine.fire_event(SelectionEvents.NEW_LOW)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, and its epoch."""
        return {key: getattr(self, key) for key in self._state_keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.epoch = (state[key] for key in self._state_keys)


class BestModelSaver:
    """Writes the network's plain state dict at each new low, replacing the file atomically.

    Args:
        network: whose weights are saved.
        path: the file, `models/model.pt`; its folder is created.
        selection: `last` writes it at every validation; see `Selection`.
        stain: stain target to which this network's images are normalised; written beside the weights as `stain.json`.
            None removes the `stain.json` of an earlier training.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        path: str | Path,
        stain: StainTarget | None = None,
        selection: Selection = "lowest",
    ) -> None:
        if selection not in get_args(Selection):
            raise CvmError(f"selection must be one of {', '.join(get_args(Selection))}, got {selection!r}")
        self.network, self.path, self.stain, self.selection = network, Path(path), stain, selection
        self._best: dict[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Add the handler for the evaluator's new lows, or for the end of each validation."""
        if self.selection == "last":
            engine.add_event_handler(Events.COMPLETED, self)
        else:
            listen(engine, SelectionEvents.NEW_LOW, self)

    def __call__(self, engine: Engine) -> None:
        """Save now, in rank 0 of a distributed training."""
        del engine
        if idist.get_rank() == 0:
            weights = bare(self.network).state_dict()
            self._best = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self._save()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that were saved last; None before the first."""
        return {"best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights and write them: the file may be newer, or missing."""
        self._best = state["best"]
        if idist.get_rank() == 0 and self._best is not None:
            self._save()

    def _save(self) -> None:
        assert self._best is not None
        remove_leftovers(self.path)
        save_state(self._best, self.path)
        self._save_stain(self.path.with_name(TARGET_FILE))

    def _save_stain(self, path: Path) -> None:
        if self.stain is None:
            path.unlink(missing_ok=True)
        else:
            write_target(self.stain, path)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's state dict, see `save_state`."""
    save_state(network.state_dict(), path)


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict that `torch.load(..., weights_only=True)` reads, replacing the file atomically.

    Raises:
        OSError: no space or no permission; the file is unchanged.
    """
    buffer = io.BytesIO()  # torch's own error for a full disk does not name the cause
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue())
