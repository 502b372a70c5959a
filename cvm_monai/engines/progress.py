"""Show the progress of a training: one bar per epoch, or one log line per epoch without a terminal."""

import logging
import sys
import time
from collections import defaultdict
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tqdm import tqdm

from cvm_monai.engines.selection import SelectionEvents, listen

logger = logging.getLogger(__name__)


class EpochMeans:
    """Writes the mean of each term of the loss over an epoch into the trainer's `state.metrics`.

    The names are `train_<term>`, and `train_total` for their sum.
    """

    def attach(self, engine: Engine) -> None:
        """Add the handlers to the trainer; call it before attaching those that read these metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)

    def _reset(self, engine: Engine) -> None:
        del engine
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0

    def __call__(self, engine: Any) -> None:
        """Accumulate this iteration's terms."""
        self._steps += 1
        for name, value in engine.state.output[0].items():
            self._sums[name] += value

    def _publish(self, engine: Engine) -> None:
        for name, total in self._sums.items():
            engine.state.metrics["train_total" if name == "loss" else f"train_{name}"] = total / self._steps


class Progress:
    """Shows one bar per epoch: the terms of the loss, the last validation score and the remaining time of the run.

    Without a terminal each epoch ends with one line in the log instead.

    Args:
        validator: the evaluator whose metrics are shown.
        metric: name of the validation metric that selects the model.
        enabled: show bars; by default if stderr is a terminal.
    """

    def __init__(self, *, validator: Engine, metric: str, enabled: bool | None = None) -> None:
        self.validator, self.metric = validator, metric
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self._bar: tqdm | None = None
        self._renewed = ""

    def attach(self, engine: Engine) -> None:
        """Add the handlers to the trainer, and to the validator's renewals; only rank 0 shows anything."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)
        listen(self.validator, SelectionEvents.RENEWED, self._note_renewal)

    def _start(self, engine: Engine) -> None:
        self._begin, self._first = time.perf_counter(), engine.state.epoch

    def _open(self, engine: Engine) -> None:
        self._renewed, self._opened = "", time.perf_counter()
        if self.enabled:
            title = f"epoch {engine.state.epoch}/{engine.state.max_epochs}"
            self._bar = tqdm(total=engine.state.epoch_length, desc=title, unit="step", dynamic_ncols=True)

    def __call__(self, engine: Any) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(engine.state.output[0]), refresh=False)
            self._bar.update()

    def _close(self, engine: Engine) -> None:
        means = {
            name.removeprefix("train_"): value
            for name, value in engine.state.metrics.items()
            if name.startswith("train_")
        }
        seconds = time.perf_counter() - self._opened
        text = f"{self._text(means)}, {seconds:.1f} s{self._renewed}, {self._left(engine)} left"
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            self._bar.close()
            self._bar = None
        else:
            logger.info("epoch %d/%d: %s", engine.state.epoch, engine.state.max_epochs, text)

    def _text(self, terms: dict[str, float]) -> str:
        parts = [f"{name} {_number(value)}" for name, value in terms.items() if name not in ("loss", "total")]
        score = self.validator.state.metrics.get(self.metric) if self.validator.state else None
        if score is not None:
            parts.append(f"{self.metric} {_number(score)}")
        return ", ".join(parts)

    def _note_renewal(self, engine: Any) -> None:
        report = engine.state.renewal
        dice = "" if report.dice is None else f", Dice {report.dice:.3f}"
        self._renewed = f", of which {report.labelled} pseudo-labels {report.seconds:.1f} s{dice}"
        if not report.labelled:
            logger.warning("no training image got a pseudo-label after epoch %d: %s", report.epoch, report.skipped)

    def _left(self, engine: Any) -> str:
        done = engine.state.epoch - self._first
        seconds = (time.perf_counter() - self._begin) / max(1, done) * (engine.state.max_epochs - engine.state.epoch)
        return tqdm.format_interval(seconds)


def _number(value: float) -> str:
    """Format with four decimals, or with three digits if the loss is too large or too small for that."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"
