"""Measure times and memory of a training's parts while the trainer runs."""

import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from cvm_monai.engines.selection import SelectionEvents, listen

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryMeter:
    """Peak memory between two calls of `look`, in MiB: of this process, and of torch on a GPU.

    Where the kernel does not allow a reset, it is the peak since the process began. Loader workers and other
    processes are not counted.

    Args:
        device: of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self.gpu = device if device.type == "cuda" else None
        self.most = self.most_gpu = 0.0
        self.look()

    def look(self) -> tuple[float, float | None]:
        """Return the peak main memory and GPU memory (None without a GPU) since the last call."""
        main = _high_water()
        gpu = None
        if self.gpu is not None:
            torch.cuda.synchronize(self.gpu)
            gpu = torch.cuda.max_memory_reserved(self.gpu) / 2**20
            torch.cuda.reset_peak_memory_stats(self.gpu)
            self.most_gpu = max(self.most_gpu, gpu)
        self.most = max(self.most, main)
        with suppress(OSError):
            CLEAR.write_text("5")  # resets the high-water mark
        return main, gpu


def _high_water() -> float:
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class Stopwatch:
    """Time the events of a trainer and its evaluator, in seconds, one entry for each epoch.

    Args:
        trainer: that will run.
        evaluator: that validates.
        renewal: the handler that renews pseudo-labels; None where the method has none.
        meter: read at the end of training steps, renewal and validation.
    """

    def __init__(self, trainer: Engine, evaluator: Engine, renewal: Any, meter: MemoryMeter) -> None:
        self.meter, self.device = meter, meter.gpu
        self.steps: list[list[float]] = []
        self.epochs: list[float] = []
        self.after_steps: list[float] = []
        """Seconds of each epoch from its last step to its end, validation and renewal included."""
        self.validations: list[float] = []
        self.renewals: list[tuple[float, float]] = []
        """Seconds of each renewal: of its images, and in total."""
        self.memory: dict[str, tuple[float, float | None]] = {}
        trainer.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        evaluator.add_event_handler(Events.STARTED, self._begin_validation)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._validated)
        evaluator.add_event_handler(Events.COMPLETED, self._end_validation)
        if renewal is not None:
            listen(evaluator, SelectionEvents.RENEWED, self._renewed)

    def _now(self) -> float:
        if self.device is not None:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _begin_epoch(self, engine: Engine) -> None:
        del engine
        self._epoch = self._last = self._now()
        self.steps.append([])

    def _step(self, engine: Engine) -> None:
        now = self._now()
        self.steps[-1].append(now - self._last)
        self._last = now
        self._note("training step")

    def _end_epoch(self, engine: Engine) -> None:
        now = self._now()
        self.epochs.append(now - self._epoch)
        self.after_steps.append(now - self._last)

    def _begin_validation(self, engine: Engine) -> None:
        self._validation, self._renewing = self._now(), 0.0

    def _validated(self, engine: Engine) -> None:
        self._last_validated = self._now()
        self._note("validation")

    def _renewed(self, engine: Any) -> None:
        whole = self._now() - self._last_validated
        self.renewals.append((engine.state.renewal.seconds, whole))
        self._renewing = whole
        self._note("renewal")

    def _end_validation(self, engine: Engine) -> None:
        self.validations.append(self._now() - self._validation - self._renewing)

    def _note(self, name: str) -> None:
        main, gpu = self.meter.look()
        before, before_gpu = self.memory.get(name, (0.0, None))
        self.memory[name] = max(main, before), gpu if gpu is None else max(gpu, before_gpu or 0.0)
