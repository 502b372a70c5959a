"""Model selection: what happens when a validation metric reaches a new low, and which weights are kept."""

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
    """Comparison for MONAI's engines, whose default is higher."""
    return current < best


def in_words(selection: Selection) -> str:
    """What a report says of a selection."""
    return WORDS[selection]


def listen(engine: Engine, event: SelectionEvents, handler: Callable[[Engine], None]) -> None:
    """Add a handler for one of these events, which the evaluator learns to know if it does not yet."""
    engine.register_events(*SelectionEvents)
    engine.add_event_handler(event, handler)


class LowestMetric:
    """Fires `SelectionEvents.NEW_LOW` on an evaluator after each validation whose metric is below all before it.

    Args:
        metric: name of the metric in `engine.state.metrics`.
    """

    _state_keys = ("best", "epoch")

    def __init__(self, *, metric: str) -> None:
        self.metric = metric
        self.best = float("inf")
        self.epoch = 0

    def attach(self, engine: Engine) -> None:
        """Make the events known, and watch."""
        engine.register_events(*SelectionEvents)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare; a value that is not finite never is a new low. Of several processes the first one decides."""
        value = from_first(float(engine.state.metrics[self.metric]))
        if math.isfinite(value) and value < self.best:
            self.best, self.epoch = value, engine.state.epoch
            engine.fire_event(SelectionEvents.NEW_LOW)

    def state_dict(self) -> dict[str, Any]:
        """Best value so far, and its epoch."""
        return {key: getattr(self, key) for key in self._state_keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best, self.epoch = (state[key] for key in self._state_keys)


class BestModelSaver:
    """Writes the network's plain state dict at each new low, aside and renamed, so that a good file is never lost.

    Args:
        network: whose weights are saved.
        path: the file, `models/model.pt`; its folder is made.
        selection: `last` writes it at every validation; see `Selection`.
        stain: what the images of this network are normalised to; it is written beside the weights as `stain.json`.
            Without one, that of a former training is removed.
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
        """Listen to the evaluator's new lows, or to its ends."""
        if self.selection == "last":
            engine.add_event_handler(Events.COMPLETED, self)
        else:
            listen(engine, SelectionEvents.NEW_LOW, self)

    def __call__(self, engine: Engine) -> None:
        """Save now, in the first process of a distributed training."""
        del engine
        if idist.get_rank() == 0:
            weights = bare(self.network).state_dict()
            self._best = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self._save()

    def state_dict(self) -> dict[str, Any]:
        """The weights that were saved last; None before the first."""
        return {"best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, and write it: the file may be newer, or gone."""
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
    """Write a state dict that `torch.load(..., weights_only=True)` reads, replacing the file in one step.

    Raises:
        OSError: no room, or no permission; the file is then as it was.
    """
    buffer = io.BytesIO()  # torch itself reports a full disk as an error without a cause
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue())
